//! The points as a picture.

use super::cases::{PATTERNS, SHAPES};
use super::measure::Measured;
use super::table::of;
use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (1280, 800);

/// Where the names of the layers begin.
const LEGEND: i32 = 1100;

/// Speed-up over sparsity, one panel for each pattern and one line for each layer.
pub(super) fn svg(points: &[Measured]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, points).map_err(|error| anyhow!("drawing: {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, points: &[Measured]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (panels, legend) = root.split_horizontally(LEGEND);
    for (area, pattern) in panels.split_evenly((2, 2)).iter().zip(PATTERNS) {
        let mut chart = ChartBuilder::on(area)
            .caption(pattern.name, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..100.0, (0.25..32.0).log_scale())?;
        chart.configure_mesh().x_desc("zeros, %").y_desc("dense / sparse time").draw()?;
        let even = [(0.0, 1.0), (100.0, 1.0)];
        chart.draw_series(LineSeries::new(even, BLACK.stroke_width(2)))?;
        for (i, shape) in SHAPES.iter().enumerate() {
            let line = of(points, shape, pattern).map(|p| (100.0 * p.sparsity, p.speedup[1]));
            chart.draw_series(LineSeries::new(line, color(i).stroke_width(2)))?;
        }
    }
    for (i, shape) in SHAPES.iter().enumerate() {
        let height = 60 + 22 * i as i32;
        let stroke = [(0, height), (20, height)];
        legend.draw(&PathElement::new(stroke, color(i).stroke_width(2)))?;
        let style = ("sans-serif", 13).into_text_style(&legend);
        legend.draw(&Text::new(shape.name, (28, height - 6), style))?;
    }
    root.present()?;
    Ok(())
}

/// Hues around the circle, dark enough for a white ground.
fn color(i: usize) -> HSLColor {
    HSLColor(i as f64 / SHAPES.len() as f64, 0.85, 0.4)
}
