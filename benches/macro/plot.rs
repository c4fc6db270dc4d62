//! The chart: how many times the best peer each subject reaches, a group of bars a workload.

use std::fmt::Write as _;

use crate::report::{Report, figure};
use crate::workload::Workload;

const COLOURS: [&str; 8] = ["#0b6e4f", "#9aa5b1", "#616e7c", "#e8c07d", "#c98b2b", "#c7b9e8", "#8e78c9", "#d95d39"];
const LEFT: f64 = 290.0;
const BAR: f64 = 11.0;
const GAP: f64 = 16.0;
const TOP: f64 = 76.0;
/// Pixels that the best peer's bar is long; longer bars than twice that are cut.
const UNIT: f64 = 300.0;
const LONGEST: f64 = 2.2;

/// The chart as SVG text.
pub fn svg(report: &Report) -> String {
    let (workloads, subjects) = (report.workloads(), report.subjects());
    let group = subjects.len() as f64 * BAR + GAP;
    let height = TOP + group * workloads.len() as f64 + 30.0;
    let width = LEFT + UNIT * LONGEST + 90.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2933\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"600\">One core of each proxy, against the best of \
         HAProxy and nginx (= 1); longer is better</text>\n"
    );
    legend(&mut text, &subjects);
    for (index, workload) in workloads.iter().enumerate() {
        bars(&mut text, report, workload, &subjects, TOP + group * index as f64);
    }
    let (best, foot) = (LEFT + UNIT, TOP + group * workloads.len() as f64);
    push(
        &mut text,
        format!(
            "<line x1=\"{best}\" y1=\"{}\" x2=\"{best}\" y2=\"{foot}\" stroke=\"#1f2933\" stroke-dasharray=\"3 3\"/>\n\
         <text x=\"{best}\" y=\"{}\" text-anchor=\"middle\">best peer</text>\n</svg>\n",
            TOP - 8.0,
            foot + 16.0,
        ),
    );
    text
}

fn legend(text: &mut String, subjects: &[&str]) {
    let mut x = 16.0;
    for (index, name) in subjects.iter().enumerate() {
        let colour = COLOURS[colour_of(name, index)];
        push(
            text,
            format!(
                "<rect x=\"{x}\" y=\"40\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\n\
             <text x=\"{}\" y=\"50\">{name}</text>\n",
                x + 16.0
            ),
        );
        x += 34.0 + 7.2 * name.len() as f64;
    }
}

fn bars(text: &mut String, report: &Report, workload: &Workload, subjects: &[&str], top: f64) {
    let middle = top + subjects.len() as f64 * BAR / 2.0 + 4.0;
    push(text, format!("<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>\n", LEFT - 10.0, workload.title));
    let best = report.best_peer(workload).and_then(|peer| report.median(workload, peer));
    for (index, name) in subjects.iter().enumerate() {
        let Some(value) = report.median(workload, name) else { continue };
        let best = best.unwrap_or(value);
        let ratio = if workload.less_is_better() { best / value.max(0.001) } else { value / best.max(0.001) };
        let length = UNIT * ratio.min(LONGEST);
        let (y, colour) = (top + index as f64 * BAR, COLOURS[colour_of(name, index)]);
        let cut = if ratio > LONGEST { format!(" ({ratio:.1} ×)") } else { String::new() };
        push(
            text,
            format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" font-size=\"9\" stroke=\"#ffffff\" \
             stroke-width=\"3\" paint-order=\"stroke\">{}{cut}</text>\n",
                BAR - 1.5,
                LEFT + length + 4.0,
                y + 8.5,
                figure(workload, value),
            ),
        );
    }
}

/// Peers keep their colours whatever else is in the chart.
fn colour_of(name: &str, index: usize) -> usize {
    match name {
        "haproxy" => 1,
        "haproxy-splice" => 2,
        "nginx16" => 3,
        "nginx64" => 4,
        "tokio16" => 5,
        "tokio64" => 6,
        _ if index == 0 => 0,
        _ => 7,
    }
}

fn push(text: &mut String, line: String) {
    // Writing to a String cannot fail.
    let _ = text.write_str(&line);
}
