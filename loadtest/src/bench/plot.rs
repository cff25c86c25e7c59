//! Figures as SVG: bars with their spread for contenders, lines for what goes over time.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::report::{Curve, Report};

type Drawn = Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (760, 420);
const FONT: (&str, u32) = ("sans-serif", 15);
const TITLE: (&str, u32) = ("sans-serif", 19);

/// Draws what a suite has measured; nothing, if there is nothing to draw.
pub fn draw(path: &Path, report: &Report) -> Drawn {
    if let Some(curve) = report.curves.first() {
        return line(path, report, curve);
    }
    if report.contenders().len() > 1 { bars(path, report) } else { Ok(()) }
}

/// Answers a second of each contender: the median as a bar, the spread as a line on it.
fn bars(path: &Path, report: &Report) -> Drawn {
    let names = report.contenders();
    let rates: Vec<_> = names
        .iter()
        .map(|name| report.spread(name, |sample| Some(sample.answers_per_second())))
        .collect();
    let top = rates.iter().map(|rate| rate.max).fold(1.0, f64::max) * 1.1;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: answers a second", report.suite), TITLE)
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..names.len() as f64, 0.0..top)?;
    let name_at = |place: &f64| {
        let inside = place.fract() > 0.4 && place.fract() < 0.6;
        let name = names.get(place.floor() as usize).filter(|_| inside);
        name.map(|name| (*name).to_owned()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(names.len() * 2 + 1)
        .x_label_formatter(&name_at)
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(FONT)
        .draw()?;
    for (place, (name, rate)) in names.iter().zip(&rates).enumerate() {
        let (left, right) = (place as f64 + 0.2, place as f64 + 0.8);
        let colour =
            if *name == "floodgate" { RGBColor(31, 119, 80) } else { RGBColor(150, 160, 170) };
        let bar = Rectangle::new([(left, 0.0), (right, rate.median)], colour.filled());
        let middle = place as f64 + 0.5;
        let spread = PathElement::new(vec![(middle, rate.min), (middle, rate.max)], BLACK);
        chart.draw_series(std::iter::once(bar))?;
        chart.draw_series(std::iter::once(spread))?;
        let label =
            Text::new(format!("{:.0}", rate.median), (left, rate.median + top * 0.03), FONT);
        chart.draw_series(std::iter::once(label))?;
    }
    area.present()?;
    Ok(())
}

fn line(path: &Path, report: &Report, curve: &Curve) -> Drawn {
    let most = |of: fn(&(f64, f64)) -> f64| curve.points.iter().map(of).fold(1.0, f64::max);
    let (right, top) = (most(|point| point.0), most(|point| point.1) * 1.1);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: {}", report.suite, curve.name), TITLE)
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|place| format!("{place:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(FONT)
        .draw()?;
    chart.draw_series(LineSeries::new(
        curve.points.iter().copied(),
        RGBColor(31, 119, 80).stroke_width(2),
    ))?;
    area.present()?;
    Ok(())
}
