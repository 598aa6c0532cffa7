//! Progress on stderr: a bar on a terminal, else one plain line per item with `-v`.

use crate::console::Console;
use crate::flags::in_flags;
use crate::interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use tensor_core::progress::Progress;

/// Shows progress of long work and passes Ctrl-C on to it.
pub(crate) struct Reporter<'a> {
    console: &'a Console,
    with_bar: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    stage: String,
    done: usize,
    items: usize,
}

impl<'a> Reporter<'a> {
    /// A bar only where somebody sees it.
    pub(crate) fn new(console: &'a Console, no_progress: bool) -> Self {
        let with_bar = !no_progress && !console.is_quiet() && std::io::stderr().is_terminal();
        Self { console, with_bar, state: Mutex::default() }
    }
}

impl Progress for Reporter<'_> {
    fn stage(&self, name: &str, items: usize) {
        let Ok(mut state) = self.state.lock() else { return };
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
        if self.with_bar {
            let bar = ProgressBar::new(items as u64);
            let template = "{prefix} [{bar:24}] {pos}/{len}  {elapsed} (left {eta})  {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(name.to_owned());
            bar.tick();
            state.bar = Some(bar);
        }
        *state = State { bar: state.bar.take(), stage: name.to_owned(), done: 0, items };
    }

    fn item(&self, name: &str) {
        let Ok(mut state) = self.state.lock() else { return };
        state.done += 1;
        match &state.bar {
            Some(bar) => {
                bar.set_message(name.to_owned());
                bar.inc(1);
            }
            None => self
                .console
                .detail(&format!("{} {}/{}  {name}", state.stage, state.done, state.items)),
        }
    }

    fn advance(&self, items: usize, name: &str) {
        let Ok(mut state) = self.state.lock() else { return };
        state.done += items;
        if let Some(bar) = &state.bar {
            bar.set_message(name.to_owned());
            bar.inc(items as u64);
        }
    }

    fn note(&self, message: &str) {
        let bar = self.state.lock().ok().and_then(|state| state.bar.clone());
        match bar {
            Some(bar) => bar.suspend(|| self.console.note(message)),
            None => self.console.note(message),
        }
    }

    fn warn(&self, message: &str) {
        let bar = self.state.lock().ok().and_then(|state| state.bar.clone());
        match bar {
            Some(bar) => bar.suspend(|| self.console.warn(&in_flags(message))),
            None => self.console.warn(&in_flags(message)),
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::requested()
    }
}

impl Drop for Reporter<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock()
            && let Some(bar) = state.bar.take()
        {
            bar.finish_and_clear();
        }
    }
}
