//! The drawing of costs by layer.

use plotters::prelude::*;
use quant_mixed::search::Resource;
use tensor_core::cost::hardware::{Layer, LayerKind};
use tensor_core::{Error, Result};

/// Height in pixels; the width follows the number of layers.
const HEIGHT: u32 = 360;
/// Colours that the colour-blind tell apart (Okabe and Ito), for different bits.
const COLORS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// One bar per layer and number of bits, the fewest bits in front; depthwise layers have a mark below.
pub(super) fn svg(
    layers: &[Layer],
    bits: &[u32],
    values: &[Vec<f64>],
    resource: Resource,
    device: &str,
) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, layers, bits, values, resource, device)
        .map_err(|error| Error::internal(format!("the drawing failed: {error}")))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    layers: &[Layer],
    bits: &[u32],
    values: &[Vec<f64>],
    resource: Resource,
    device: &str,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let width = 160 + 14 * u32::try_from(layers.len().clamp(24, 400))?;
    let area = SVGBackend::with_string(text, (width, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = values.iter().flatten().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{resource} by layer on {device}"), ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(84)
        .build_cartesian_2d(-0.5..layers.len() as f64 - 0.5, -0.04 * most..most * 1.05)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("layer (marked below the axis: depthwise)")
        .y_label_formatter(&|value| resource.show(value.max(0.0)))
        .x_label_formatter(&|at| format!("{at:.0}"))
        .draw()?;
    for (column, number) in bits.iter().enumerate() {
        let color = COLORS[column % COLORS.len()];
        let bars = values.iter().enumerate().map(|(at, row)| {
            let at = at as f64;
            let top = row.get(column).copied().unwrap_or(0.0);
            Rectangle::new([(at - 0.4, 0.0), (at + 0.4, top)], color.filled())
        });
        chart
            .draw_series(bars)?
            .label(format!("{number} bits"))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
    }
    let depthwise = layers.iter().enumerate().filter(|(_, l)| l.shape.op == LayerKind::Depthwise);
    chart.draw_series(depthwise.map(|(at, _)| {
        let at = at as f64;
        Rectangle::new([(at - 0.4, -0.035 * most), (at + 0.4, -0.01 * most)], BLACK.filled())
    }))?;
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    area.present()?;
    Ok(())
}
