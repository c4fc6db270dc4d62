//! The screen of `ringway top`: one function per part. It draws what is in the [`Board`] and keeps nothing.
//!
//! ```text
//! head         ringway 0.1.0  serving  up 5m  12 sessions of 9382
//! plots        sessions/s and bytes/s, with marks for changes of state; only on a high terminal
//! workers      how busy each one is
//! listeners    where clients connect
//! table        one row per backend
//! foot         keys, or why the last look failed
//! ```

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};

use super::board::{Board, Rate, TopLook, backends};
use crate::api::words::BackendStatus;
use crate::cli::ctl::table::{bytes, count, span, tone_of};
use crate::cli::paint::Tone;

/// Rows of a plot, with its border and its marks.
const PLOT_HEIGHT: u16 = 6;
/// On a lower terminal there are no plots.
const HEIGHT_WITH_PLOTS: u16 = 19;
/// On a narrower terminal a reason stands below its backend, not beside it.
const WIDTH_WITH_REASONS: usize = 110;
/// Columns that a reason gets at least, if it stands beside its backend.
const REASON_WIDTH_MIN: usize = 30;
/// Columns that the state and the numbers of a backend take.
const NUMBERS_WIDTH: usize = 1 + 12 + 7 + 9 + 7 + 11 + 9;

/// Draws the whole screen.
pub(super) fn draw(board: &Board, frame: &mut Frame<'_>) {
    let Some(look) = &board.last else {
        let what = board.trouble.as_deref().unwrap_or("asking ringway…");
        frame.render_widget(Paragraph::new(what).wrap(ratatui::widgets::Wrap { trim: true }), frame.area());
        return;
    };
    let plots = if frame.area().height >= HEIGHT_WITH_PLOTS { PLOT_HEIGHT } else { 0 };
    let [top, middle, workers, listeners, table, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(plots),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(head(look), top);
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(middle);
    let last = board.history.back().copied().unwrap_or_default();
    let sessions = format!(" {:.0} sessions/s ", last.sessions);
    plot(board, frame, left, sessions, Color::Cyan, |rate| rate.sessions);
    let moved = format!(" {}/s ", bytes(last.bytes as u64));
    plot(board, frame, right, moved, Color::Magenta, |rate| rate.bytes);
    frame.render_widget(busy(board, look), workers);
    frame.render_widget(addresses(look), listeners);
    frame.render_widget(table_of(board, look, table.width), table);
    frame.render_widget(foot_of(board), foot);
}

/// The first line: version, phase, uptime, sessions.
fn head(look: &TopLook) -> Line<'_> {
    let status = &look.status;
    let phase = if status.phase == "serving" { (*status.phase).green() } else { (*status.phase).yellow() };
    let most = match status.limits.connections_max {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    let rest =
        format!("  {}  up {}  {}{most}", status.io, span(status.uptime_ms), count(status.connections, "session"));
    Line::from(vec![format!("ringway {}  ", status.version).bold(), phase, rest.into()])
}

/// A plot of one rate, the newest value on the right.
fn plot(board: &Board, frame: &mut Frame<'_>, area: Rect, title: String, color: Color, of: fn(&Rate) -> f64) {
    let width = usize::from(area.width.saturating_sub(2));
    let shown = board.history.iter().skip(board.history.len().saturating_sub(width));
    let mut values = vec![0; width.saturating_sub(board.history.len())];
    values.extend(shown.map(|rate| of(rate).round() as u64));
    let block = Block::bordered().title(title).border_style(Style::new().dark_gray());
    let [bars, flags] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(block.inner(area));
    frame.render_widget(block, area);
    frame.render_widget(Sparkline::default().data(values).style(Style::new().fg(color)), bars);
    frame.render_widget(marks(board, width), flags);
}

/// A sign below each second in which a backend changed its state or a configuration was applied.
fn marks<'a>(board: &Board, width: usize) -> Line<'a> {
    let mut signs = vec![Span::raw(" "); width];
    for (ago, state) in &board.marks {
        let Some(at) = usize::try_from(*ago).ok().and_then(|ago| width.checked_sub(ago + 1)) else { continue };
        signs[at] = match state.as_deref() {
            None => "◆".cyan(),
            Some("up") => "▲".green(),
            Some(state) => Span::styled("▼", Style::new().fg(color_of(state))),
        };
    }
    Line::from(signs)
}

/// The line of listeners and their addresses.
fn addresses<'a>(look: &TopLook) -> Line<'a> {
    let mut spans = vec!["listeners ".dark_gray()];
    for listener in &look.listeners {
        spans.push(Span::raw(format!("{} {}  ", listener.name, listener.bind.join(" "))));
    }
    Line::from(spans)
}

/// The colour of a backend's state.
fn color_of(state: &str) -> Color {
    match tone_of(state) {
        Tone::Good => Color::Green,
        Tone::Bad => Color::Red,
        Tone::Warn => Color::Yellow,
        _ => Color::DarkGray,
    }
}

/// The line of workers, with how busy each one is.
fn busy<'a>(board: &Board, look: &TopLook) -> Line<'a> {
    let mut spans = vec!["workers ".dark_gray()];
    for (worker, busy) in look.status.workers.iter().zip(&board.busy) {
        let text = format!("{} {:>3.0} %  ", worker.worker, busy * 100.0);
        spans.push(match busy {
            0.9.. => text.red(),
            0.7.. => text.yellow(),
            _ => Span::raw(text),
        });
    }
    Line::from(spans)
}

/// The table of backends, one row each. If there is no room for reasons beside the rows, they stand below, and only for
/// backends that are not up.
fn table_of<'a>(board: &Board, look: &TopLook, width: u16) -> Paragraph<'a> {
    let width = usize::from(width);
    let shown: Vec<_> = backends(&look.pools).skip(board.scroll).collect();
    let longest = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let is_wide = width >= WIDTH_WITH_REASONS;
    let name_width =
        longest.min(width.saturating_sub(NUMBERS_WIDTH + if is_wide { REASON_WIDTH_MIN } else { 0 })).max(8);
    let numbers = format!("{:>9}{:>7}{:>11}{:>9}", "SESSIONS", "NEW/s", "BYTES/s", "CHECK");
    let heading = format!("{:name_width$} {:12}{:>7}{numbers}", "BACKEND", "STATE", "FOR");
    let reason_heading = if is_wide { "  REASON" } else { "" };
    let mut lines = vec![Line::from((heading + reason_heading).dark_gray())];
    for (name, backend) in shown {
        let rate = board.rates.get(&name).copied().unwrap_or_default();
        let mut line = line_of(&cut(&name, name_width), name_width, backend, rate);
        let is_up = backend.state == "up";
        if is_wide {
            line.push_span(format!("  {}", backend.reason).gray());
        }
        lines.push(line);
        if !is_wide && !is_up {
            lines.push(Line::from(format!("  {}", backend.reason).gray()));
        }
    }
    Paragraph::new(lines)
}

/// The row of one backend.
fn line_of<'a>(name: &str, name_width: usize, backend: &BackendStatus, rate: Rate) -> Line<'a> {
    let color = color_of(&backend.state);
    let check = backend.checks.mean_ms.map_or("-".to_string(), |mean| format!("{mean:.1} ms"));
    let (long, moved) = (span(backend.since_ms), bytes(rate.bytes as u64));
    Line::from(vec![
        Span::raw(format!("{name:name_width$} ")),
        Span::styled(format!("{:12}", backend.state), Style::new().fg(color)),
        Span::raw(format!("{long:>7}{:>9}{:>7.0}{moved:>11}{check:>9}", backend.connections, rate.sessions)),
    ])
}

/// A text cut to `width` columns; a `…` marks the cut.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The last line: the keys, or why the last look failed.
fn foot_of(board: &Board) -> Line<'_> {
    match &board.trouble {
        Some(why) => Line::from(why.as_str().red()),
        None => Line::from("q quit   ↑↓ scroll".dark_gray()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::board::tests::{look, look_back, mark};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// The screen as text.
    fn screen(board: &Board, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(board, frame)).unwrap();
        terminal.backend().to_string()
    }

    fn board() -> Board {
        let mut board = Board::default();
        (1..=9).for_each(|second| board.on(look(1, second, second * second, second * 1_000_000)));
        board
    }

    #[test]
    fn every_backend_is_shown_with_state_rates_and_reason() {
        let shown = screen(&board(), 120, 30);
        for text in ["ringway 0.1.0  serving", "5 sessions of 100", "db/a", "db/b", "down", "connect: refused", "25 %"]
        {
            assert!(shown.contains(text), "{text} is missing:\n{shown}");
        }
        assert!(shown.contains("34 sessions/s") && shown.contains("3.81 MiB/s"), "{shown}");
        assert!(shown.contains('█'), "a plot: {shown}");
    }

    /// 80 columns are what a serial console has, and an operator at 3 a.m.
    #[test]
    fn eighty_columns_show_whole_names_and_the_reasons_of_what_is_down() {
        let shown = screen(&board(), 80, 24);
        let line = |text: &str| shown.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(line("connect: refused"), line("db/b") + 1, "{shown}");
        assert_eq!(shown.matches("connect: refused").count(), 1, "not of one that is up: {shown}");
        assert!(shown.contains("1.5 ms") && shown.contains("MiB"), "{shown}");
        assert_eq!(cut("cache/cache-1.eu-central", 12), "cache/cache…");
        assert_eq!(cut("db/ä", 4), "db/ä");
    }

    #[test]
    fn listeners_are_shown_with_their_addresses_and_changes_below_their_seconds() {
        let mut board = Board::default();
        let marks = [mark(8, Some("up")), mark(9, Some("down")), mark(10, None)];
        board.on(look_back(1, 10, &[1.0, 5.0, 2.0], &marks));
        let shown = screen(&board, 100, 24);
        assert!(shown.contains("listeners db 10.0.0.9:5432"), "{shown}");
        assert_eq!(shown.matches("▲▼◆│").count(), 2, "the newest second is the last one of both plots:\n{shown}");
        assert!(shown.contains("2 sessions/s"), "{shown}");
    }

    #[test]
    fn no_screen_is_too_small_to_be_drawn() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (80, 17), (80, 18), (300, 5)] {
            screen(&board(), width, height);
            screen(&Board::default(), width, height);
        }
    }

    #[test]
    fn trouble_is_said_and_what_was_seen_stays() {
        let mut board = board();
        board.on_trouble("cannot ask the ringway".to_string());
        let shown = screen(&board, 100, 24);
        assert!(shown.contains("cannot ask the ringway") && shown.contains("db/a"), "{shown}");
        board.on(look(1, 10, 100, 0));
        assert!(!screen(&board, 100, 24).contains("cannot ask"));
    }
}
