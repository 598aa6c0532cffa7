//! Reports in a real browser: headless Chromium at the widths of a phone and of a desk, light and dark.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PREPROCESS, TEST, TRAIN, kerf};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const MODEL: &str = "fixtures/models/vgg7_fmnist_bn.onnx";

/// Tells what the browser made of the page, with everything unfolded.
const PROBE: &str = "<script>addEventListener('load', () => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const small = [...document.querySelectorAll('p, td, a, text')].filter(
    e => parseFloat(getComputedStyle(e).fontSize) < 11).length;
  parent.postMessage(JSON.stringify({ width: innerWidth, scroll: document.documentElement.scrollWidth, small,
    background: getComputedStyle(document.body).backgroundColor,
    plots: [...document.querySelectorAll('svg.plot')].map(e => e.getBoundingClientRect().right) }), '*');
});</script>";

/// A window has some width at least; a frame has any. What the page tells becomes a comment of the frame's
/// page.
fn frame(page: &Path, width: u32) -> String {
    format!(
        "<!DOCTYPE html><body style=\"margin:0\"><script>addEventListener('message', \
         e => document.body.append(document.createComment('seen:' + e.data)));</script>\
         <iframe src=\"file://{}\" width=\"{width}\" height=\"900\" style=\"border:0\"></iframe></body>",
        page.display()
    )
}

/// What the browser says of a page.
fn seen(page: &Path, width: u32, is_dark: bool) -> Value {
    let mut command = Command::new("chromium");
    let folder = tempfile::tempdir().unwrap();
    let outer = page.with_extension("frame.html");
    fs::write(&outer, frame(page, width)).unwrap();
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--dump-dom",
    ]);
    command.args(["--window-size=1400,1000", "--virtual-time-budget=5000"]);
    command.arg(format!("--user-data-dir={}", folder.path().display()));
    if is_dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    let output =
        command.arg(format!("file://{}", outer.display())).output().unwrap_or_else(|error| {
            panic!("chromium: {error}; `apt-get install --no-install-recommends chromium`")
        });
    let messages = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = messages.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(said.is_empty(), "{said:?}");
    let dom = String::from_utf8_lossy(&output.stdout);
    let seen = dom.rsplit_once("<!--seen:").unwrap_or_else(|| panic!("{dom}\n{messages}")).1;
    serde_json::from_str(seen.split("-->").next().unwrap()).unwrap()
}

fn looks_right(page: &Path) {
    let text = fs::read_to_string(page).unwrap();
    let probed = page.with_extension("probed.html");
    fs::write(&probed, text.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    let mut backgrounds = Vec::new();
    for (width, is_dark) in [(390, false), (1280, true), (390, true), (1280, false)] {
        let seen = seen(&probed, width, is_dark);
        assert_eq!(seen["width"], width, "{seen}");
        assert!(
            seen["scroll"].as_u64() <= seen["width"].as_u64(),
            "the page is wider than {width}: {seen}"
        );
        assert_eq!(seen["small"], 0, "text is too small: {seen}");
        for right in seen["plots"].as_array().unwrap() {
            assert!(right.as_f64().unwrap() <= f64::from(width), "a drawing is cut off: {seen}");
        }
        backgrounds.push((is_dark, seen["background"].clone()));
    }
    assert_eq!(backgrounds[0].1, backgrounds[3].1);
    assert_ne!(backgrounds[0].1, backgrounds[1].1, "dark is light");
}

#[test]
fn pages_fit_phones_and_desks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str| at(name).display().to_string();
    let data = ["--data", TRAIN, "--preprocess", PREPROCESS, "--samples", "64"];
    let (small, run) = (text("small.onnx"), text("trials"));
    let goal = ["--size", "20%", "--trials", "2", "--hold-out", "64", "-o", &small, "--run", &run];
    kerf(&[&["compress", MODEL], &data[..], &goal].concat());
    kerf(&["report", &run, "-o", &text("compress.html")]).success();
    looks_right(&at("compress.html"));

    let (taught, run) = (text("taught.onnx"), text("training"));
    let flags = ["--steps", "4", "--batch", "16", "--eval-every", "2", "--eval-data", TEST];
    let more = ["--teacher", MODEL, "--sparsity", "50%", "-o", &taught, "--run", &run];
    kerf(&[&["finetune", MODEL], &data[..], &flags, &more].concat()).success();
    kerf(&["report", &run, "-o", &text("training.html")]).success();
    looks_right(&at("training.html"));
}
