//! Histograms of gates, side by side.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Width and height of a panel in pixels, and panels in a row.
const PANEL: (u32, u32) = (300, 220);
const COLUMNS: usize = 3;

/// One panel per histogram: closed gates, then equal intervals of 0 to 1. SVG.
pub(super) fn histograms(panels: &[(String, Vec<f64>)]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, panels).map_err(|error| anyhow!("the drawing failed: {error}"))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    panels: &[(String, Vec<f64>)],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let size = (PANEL.0 * COLUMNS as u32, PANEL.1 * rows as u32);
    let area = SVGBackend::with_string(text, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, (name, counts)) in area.split_evenly((rows, COLUMNS)).iter().zip(panels) {
        let all = counts.iter().sum::<f64>().max(1.0);
        let width = 1.0 / (counts.len().saturating_sub(1)).max(1) as f64;
        let mut chart = ChartBuilder::on(panel)
            .caption(name, ("sans-serif", 14))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(36)
            .build_cartesian_2d(-width..1.0, 0.0..100.0)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(5)
            .y_labels(5)
            .y_label_formatter(&|share| format!("{share:.0} %"))
            .draw()?;
        chart.draw_series(counts.iter().enumerate().map(|(bin, &count)| {
            let low = (bin as f64 - 1.0) * width;
            // Exact zeros are left of 0, in another colour.
            let style = if bin == 0 { RED.filled() } else { BLUE.filled() };
            Rectangle::new([(low, 0.0), (low + width, 100.0 * count / all)], style)
        }))?;
    }
    area.present()?;
    Ok(())
}
