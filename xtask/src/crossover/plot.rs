//! The points as a picture.

use super::cases::{PATTERNS, SHAPES};
use super::measure::Measured;
use super::table::of;
use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (1100, 800);

/// Speed-up over sparsity, one panel for each pattern and one line for each layer.
pub(super) fn svg(points: &[Measured]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, points).map_err(|error| anyhow!("drawing: {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, points: &[Measured]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, pattern) in root.split_evenly((2, 2)).iter().zip(PATTERNS) {
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
            let color = Palette99::pick(i).to_rgba();
            let line = of(points, shape, pattern).map(|p| (100.0 * p.sparsity, p.speedup[1]));
            chart
                .draw_series(LineSeries::new(line, color.stroke_width(2)))?
                .label(shape.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }
    root.present()?;
    Ok(())
}
