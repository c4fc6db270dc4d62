//! `ringway top`: a running ringway on the whole terminal, asked once per second.
//!
//! `board` keeps what was answered and computes rates, `draw` makes the picture; here are the loop and the keyboard.

mod board;
mod draw;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::ctl;
use super::ctl::client::ApiClient;
use super::failure::Failure;
use crate::api::words;
use crate::base::time::{Clock, ns};
use board::{Board, TopLook};

/// How often ringway is asked.
const PACE: Duration = Duration::from_secs(1);

/// The command.
pub(super) fn top(socket: Option<&PathBuf>) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::Usage("top needs a terminal; `ringway ctl --json status` is for programs".to_string()));
    }
    let (socket, clock) = (ctl::socket(socket), Clock::new());
    let client = ApiClient::new(&socket)?;
    let mut board = Board::default();
    // If ringway cannot be reached at all, that is printed as an ordinary line, before the terminal is taken over.
    board.on(look(&client, &clock, &board)?);
    let result = watch(&client, &clock, &mut board, &mut ratatui::try_init()?);
    ratatui::restore();
    result
}

/// The loop: draw, wait for a key or for the next look. It ends with `q`, Esc or Ctrl-C.
fn watch(
    client: &ApiClient<'_>,
    clock: &Clock,
    board: &mut Board,
    terminal: &mut DefaultTerminal,
) -> Result<(), Failure> {
    let mut look_at = clock.now().after_ns(ns(PACE));
    loop {
        terminal.draw(|frame| draw::draw(board, frame))?;
        let left = Duration::from_nanos(look_at.since_ns(clock.now()));
        if event::poll(left)? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press && is_end(&key) => return Ok(()),
                Event::Key(key) if key.kind == KeyEventKind::Press => board.scroll_by(rows(&key)),
                _ => {}
            }
            continue;
        }
        match look(client, clock, board) {
            Ok(look) => board.on(look),
            Err(why) => board.on_trouble(why.to_string()),
        }
        look_at = clock.now().after_ns(ns(PACE));
    }
}

/// Asks ringway for everything that is shown.
fn look(client: &ApiClient<'_>, clock: &Clock, board: &Board) -> Result<TopLook, Failure> {
    let (status, pools) = (client.get::<words::Status>("/v1/status")?, client.get::<words::Pools>("/v1/pools")?);
    let listeners = client.get::<words::Listeners>("/v1/listeners")?.listeners;
    // An older ringway has no history.
    let since = board.seen_of(status.pid);
    let history = client.get(&format!("/v1/history?backends=false&since={since}")).ok();
    Ok(TopLook { at: clock.now(), status, pools: pools.pools, listeners, history })
}

/// Whether a key ends the program.
fn is_end(key: &KeyEvent) -> bool {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (with_control && key.code == KeyCode::Char('c'))
}

/// How many rows a key scrolls.
fn rows(key: &KeyEvent) -> isize {
    match key.code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -10,
        KeyCode::PageDown => 10,
        _ => 0,
    }
}
