//! Shows the demo: on a terminal as a picture that replaces the one before, in a pipe line by line.
//!
//! It decides when something is written and what is kept for rates. The text itself comes from `render`.

use std::collections::VecDeque;
use std::time::Duration;

use super::render::{DemoEvent, DemoStage, Sample};
use crate::cli::failure::Failure;
use crate::cli::paint::Paint;
use crate::cli::print;

/// From one line in a pipe to the next.
const LINE: Duration = Duration::from_secs(1);
/// From one picture on a terminal to the next.
const PICTURE: Duration = Duration::from_millis(100);
/// The time over which rates on a terminal are taken: long enough to read them, short enough to see what happens.
const WINDOW: Duration = Duration::from_millis(500);

/// Where the demo is shown.
pub(super) struct Screen {
    /// Whether it is a terminal.
    paint: Paint,
    /// When something was drawn last, since the start.
    drawn: Duration,
    /// How many lines the picture on the terminal has.
    lines: usize,
}

impl Screen {
    /// Nothing is shown yet.
    pub(super) fn new(paint: Paint) -> Screen {
        Screen { paint, drawn: Duration::ZERO, lines: 0 }
    }

    /// Shows `now` if it is time for it. `samples` holds what was shown lately, and gets `now` then.
    pub(super) fn show(
        &mut self,
        stage: &DemoStage,
        now: &Sample,
        samples: &mut VecDeque<Sample>,
        events: &[DemoEvent],
    ) -> Result<(), Failure> {
        let (every, is_first) = match self.paint {
            Paint::Ansi => (PICTURE, self.lines == 0),
            Paint::Plain => (LINE, false),
        };
        if now.at < self.drawn + every && !is_first {
            return Ok(());
        }
        self.drawn = now.at;
        self.draw(stage, now, samples, events)?;
        samples.push_back(now.clone());
        while samples.len() > 1 && samples[1].at + WINDOW <= now.at {
            samples.pop_front();
        }
        Ok(())
    }

    /// Shows the last picture.
    pub(super) fn close(
        &mut self,
        stage: &DemoStage,
        now: &Sample,
        samples: &VecDeque<Sample>,
        events: &[DemoEvent],
    ) -> Result<(), Failure> {
        self.draw(stage, now, samples, events)
    }

    /// Shows something that happened. In a pipe it is a line of its own; in a picture it comes with the next one.
    pub(super) fn tell(&mut self, stage: &DemoStage, event: &DemoEvent) -> Result<(), Failure> {
        match self.paint {
            Paint::Ansi => Ok(()),
            Paint::Plain => print(format!("{}\n", stage.event(event)).as_bytes()),
        }
    }

    /// Draws a picture or a line.
    fn draw(
        &mut self,
        stage: &DemoStage,
        now: &Sample,
        samples: &VecDeque<Sample>,
        events: &[DemoEvent],
    ) -> Result<(), Failure> {
        let nothing = Sample::default();
        let before = samples.front().unwrap_or(&nothing);
        match self.paint {
            Paint::Plain => print(stage.line(now, before).as_bytes()),
            Paint::Ansi => {
                let frame = stage.frame(now, before, events);
                // Move up to where the last picture began. Each line clears what is longer in the old picture.
                let up = if self.lines == 0 { String::new() } else { format!("\x1b[{}A\r", self.lines) };
                self.lines = frame.lines().count();
                print((up + &frame.replace('\n', "\x1b[K\n")).as_bytes())
            }
        }
    }
}
