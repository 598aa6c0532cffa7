//! Where the shared library of ONNX Runtime may be.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that the user names. Then no other will do.
pub(super) fn named() -> Option<PathBuf> {
    std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The places to try, best first, when none is named. A later place is only looked at when the
/// earlier ones failed, hence an iterator.
pub(super) fn candidates() -> impl Iterator<Item = PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    // A bare name is left to the system's loader.
    let system = PathBuf::from(format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}"));
    let environment = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    beside
        .into_iter()
        .flat_map(|folder| libraries(&folder))
        .chain(std::iter::once(system))
        .chain(environment.into_iter().flat_map(|prefix| python_libraries(&prefix)))
        .chain(lazily(python_on_path))
        .chain(lazily(python_says))
}

/// Defers work until its first item is asked for.
fn lazily(find: fn() -> Vec<PathBuf>) -> impl Iterator<Item = PathBuf> {
    std::iter::once_with(find).flatten()
}

/// The libraries of a folder, sorted by name.
fn libraries(folder: &Path) -> Vec<PathBuf> {
    let wanted = format!("{DLL_PREFIX}onnxruntime.");
    let suffix = DLL_SUFFIX.trim_start_matches('.');
    entries(folder, |name| name.starts_with(&wanted) && name.split('.').any(|part| part == suffix))
}

/// Visible entries whose name is accepted, sorted.
fn entries(folder: &Path, accept: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&accept))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// The libraries in the packages of a Python installation.
fn python_libraries(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for python in entries(&prefix.join("lib"), |name| name.starts_with("python3")) {
        for packages in ["site-packages", "dist-packages"] {
            found.extend(libraries(&python.join(packages).join("onnxruntime/capi")));
        }
    }
    // Windows has one folder for all versions.
    found.extend(libraries(&prefix.join("Lib/site-packages/onnxruntime/capi")));
    found
}

fn python_on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("python3"))
        .find(|python| python.is_file())
        .and_then(|python| python.canonicalize().ok())
        .and_then(|python| Some(python.parent()?.parent()?.to_owned()))
        .map_or_else(Vec::new, |prefix| python_libraries(&prefix))
}

/// Asks `python3`, which may be a script that starts the real one (as pyenv's is). `find_spec` does
/// not import the package.
fn python_says() -> Vec<PathBuf> {
    const QUESTION: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                            print(s.submodule_search_locations[0] if s else '')";
    let output = Command::new("python3").args(["-c", QUESTION]).output();
    let Ok(output) = output else {
        return Vec::new();
    };
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if folder.is_empty() { Vec::new() } else { libraries(&Path::new(&folder).join("capi")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_told_from_their_neighbours() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let capi = folder.path().join("lib/python3.11/site-packages/onnxruntime/capi");
        std::fs::create_dir_all(&capi).expect("folders");
        let name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}.1.31.1");
        let provider = format!("{DLL_PREFIX}onnxruntime_providers_shared{DLL_SUFFIX}");
        for file in [name.as_str(), provider.as_str(), "onnxruntime_pybind11_state.so", "a.py"] {
            std::fs::write(capi.join(file), "").expect("a file");
        }
        assert_eq!(python_libraries(folder.path()), [capi.join(name)]);
        assert!(python_libraries(&folder.path().join("absent")).is_empty());
    }
}
