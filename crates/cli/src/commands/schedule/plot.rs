//! The drawing of a schedule.

use magnitude_schedule::Schedule;
use plotters::prelude::*;
use tensor_core::{Error, Result};

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 420);

/// Sparsity over the steps of a run as a staircase, SVG.
pub(super) fn svg(schedule: &Schedule, points: &[(u64, f64)], steps: u64) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, schedule, points, steps)
        .map_err(|error| Error::internal(format!("the drawing failed: {error}")))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    schedule: &Schedule,
    points: &[(u64, f64)],
    steps: u64,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}", schedule.shape()), ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0_u64..steps, 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("optimizer step")
        .y_desc("weights that are zero, %")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    let mut stairs: Vec<(u64, f64)> = Vec::with_capacity(2 * points.len());
    for &(step, sparsity) in points {
        if let Some(&(_, before)) = stairs.last() {
            stairs.push((step, before));
        }
        stairs.push((step, sparsity * 100.0));
    }
    chart.draw_series(LineSeries::new(stairs, BLUE.stroke_width(2)))?;
    area.present()?;
    Ok(())
}
