//! The drawings of a run with gates, SVG.

use gates_gdp::train::{BINS, History, ListReport};
use plotters::coord::Shift;
use plotters::prelude::*;
use tensor_core::{Error, Result};

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 420);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn svg(draw: impl FnOnce(&Area) -> Drawn) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)
            .map_err(|error| error.to_string())
            .and_then(|()| draw(&area).map_err(|error| error.to_string()))
            .and_then(|()| area.present().map_err(|error| error.to_string()))
            .map_err(|error| Error::internal(format!("the drawing failed: {error}")))?;
    }
    Ok(text)
}

/// Gates by value over the run: the darker, the more of them. The lowest row are closed gates.
pub(super) fn histogram(history: &History) -> Result<String> {
    svg(|area| {
        let last = history.steps.last().copied().unwrap_or(1).max(1);
        let mut chart = ChartBuilder::on(area)
            .caption("gates over the run; the lowest row are closed ones", ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0..last, -1.0 / BINS as f64..1.0)?;
        chart.configure_mesh().disable_mesh().x_desc("optimizer step").y_desc("gate").draw()?;
        let mut before = 0;
        for (&step, counts) in history.steps.iter().zip(&history.histogram) {
            let all: u32 = counts.iter().sum();
            let cells = counts.iter().enumerate().filter(|(_, count)| **count > 0);
            chart.draw_series(cells.map(|(bin, &count)| {
                let low = (bin as f64 - 1.0) / BINS as f64;
                // A single gate of many is still to be seen.
                let share = 0.08 + 0.92 * (f64::from(count) / f64::from(all.max(1))).sqrt();
                let corners = [(before, low), (step, low + 1.0 / BINS as f64)];
                Rectangle::new(corners, BLUE.mix(share).filled())
            }))?;
            before = step;
        }
        Ok(())
    })
}

/// Open and closed gates of each list.
pub(super) fn layers(lists: &[ListReport]) -> Result<String> {
    svg(|area| {
        let most = lists.iter().map(|list| list.list.channels).max().unwrap_or(1);
        let count = lists.len().max(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption("open gates of all, by group", ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.5..count - 0.5, 0..most)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(lists.len().clamp(1, 24))
            .x_label_formatter(&|at| {
                let near = at.round();
                let list = ((at - near).abs() < 0.1).then(|| lists.get(near as usize)).flatten();
                list.map_or(String::new(), |list| list.list.id.clone())
            })
            .x_desc("group")
            .y_desc("channels")
            .draw()?;
        for (filled, color) in [(false, BLUE.mix(0.2)), (true, BLUE.mix(1.0))] {
            chart.draw_series(lists.iter().enumerate().map(|(at, list)| {
                let height = if filled { list.open } else { list.list.channels };
                let at = at as f64;
                Rectangle::new([(at - 0.35, 0), (at + 0.35, height)], color.filled())
            }))?;
        }
        Ok(())
    })
}

/// The resource over the run.
pub(super) fn resource(history: &History) -> Result<String> {
    svg(|area| {
        let last = history.steps.last().copied().unwrap_or(1).max(1);
        let mut chart = ChartBuilder::on(area)
            .caption("resource over the run", ("sans-serif", 18))
            .margin(16)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(0..last, 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_desc("optimizer step")
            .y_desc("kept, %")
            .y_label_formatter(&|value| format!("{value:.0}"))
            .draw()?;
        let points = history.steps.iter().zip(&history.resource);
        let points = points.map(|(&step, &share)| (step, 100.0 * share));
        let points: Vec<_> = std::iter::once((0, 100.0)).chain(points).collect();
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        Ok(())
    })
}
