//! The drawing of the front, SVG.

use super::front::{Point, Quality};
use plotters::prelude::*;
use tensor_core::{Error, Result};

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 420);

/// Quality over the share that was asked for, with the original as a line.
pub(super) fn front(points: &[Point], quality: &Quality) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, points, quality)
        .map_err(|error| Error::internal(format!("the drawing failed: {error}")))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    points: &[Point],
    quality: &Quality,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut pairs: Vec<(f64, f64)> =
        points.iter().zip(&quality.values).map(|(p, &q)| (100.0 * p.share, 100.0 * q)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let original = quality.original.map(|value| 100.0 * value);
    let all = pairs.iter().map(|pair| pair.1).chain(original);
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    // Some room, also where all values are the same.
    let room = (0.1 * (high - low)).max(0.1);
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{} over the share that is kept", quality.name), ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..100.0, low - room..high + room)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("kept, %")
        .y_desc(format!("{}, %", quality.name))
        .draw()?;
    if let Some(original) = original {
        chart.draw_series(LineSeries::new([(0.0, original), (100.0, original)], BLACK.mix(0.4)))?;
        let place = (1.0, original + 0.04 * (high - low + 2.0 * room));
        chart.draw_series([Text::new("the original", place, ("sans-serif", 13))])?;
    }
    chart.draw_series(LineSeries::new(pairs.iter().copied(), &BLUE))?;
    chart.draw_series(pairs.iter().map(|&pair| Circle::new(pair, 4, BLUE.filled())))?;
    area.present()?;
    Ok(())
}
