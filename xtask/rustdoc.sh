#!/bin/sh
# Lets rustdoc write JSON, which stable toolchains call unstable. Set for rustdoc alone: as a variable of
# cargo's it would make build scripts, and with them most dependencies, run again.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
