use super::*;

fn sample(at_s: u64, bytes: [u64; 2]) -> Sample {
    let backend = |name, is_up, bytes| BackendRow {
        name,
        state: if is_up { "up" } else { "down" },
        is_up,
        open: 7,
        total: 1234,
        connect_errors: u64::from(!is_up),
        bytes,
    };
    let clients = ClientSample { sessions: 10, echoes: at_s * 1000, cut: 9, ..ClientSample::default() };
    Sample {
        at: Duration::from_secs(at_s),
        backends: vec![backend("a", true, bytes[0]), backend("b", false, bytes[1])],
        clients,
    }
}

fn stage(paint: Paint) -> DemoStage {
    DemoStage { listen: "127.0.0.1:4000".into(), clients: 27, workers: 2, span: Duration::from_secs(10), paint }
}

#[test]
fn the_frame_shows_rates_since_the_earlier_sample() {
    let events = [DemoEvent { at: Duration::from_secs(1), tone: Tone::Bad, text: "b stopped".into() }];
    let frame = stage(Paint::Plain).frame(&sample(2, [90_000_000, 5]), &sample(1, [48_000_000, 5]), &events);
    let a = frame.lines().find(|line| line.starts_with("  a ")).unwrap();
    assert!(a.contains("● up") && a.contains("1,234") && a.contains(" 42.0 ") && a.ends_with(&"█".repeat(BAR)), "{a}");
    let b = frame.lines().find(|line| line.starts_with("  b ")).unwrap();
    assert!(b.contains("○ down") && b.contains(" 0.0 ") && !b.contains('█'), "{b}");
    assert!(frame.contains("1,000 answers/s") && frame.contains("9 sessions cut") && frame.contains("b stopped"));
    assert!(!frame.contains('\x1b') && frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
}

#[test]
fn the_frame_fits_a_terminal_of_24_lines() {
    let event = DemoEvent { at: Duration::ZERO, tone: Tone::Dim, text: "x".into() };
    let frame = stage(Paint::Ansi).frame(&sample(2, [0, 0]), &sample(2, [0, 0]), &vec![event; 8]);
    assert!(frame.lines().count() < 22 && frame.contains('\x1b'));
}

#[test]
fn a_line_for_a_pipe_has_every_backend_and_no_escapes() {
    let line = stage(Paint::Plain).line(&sample(2, [90_000_000, 5]), &sample(1, [48_000_000, 5]));
    assert!(line.contains("a up    7 open   42.0 MB/s") && line.contains("b down"), "{line}");
    assert!(line.ends_with("0 wrong\n") && line.lines().count() == 1 && !line.contains('\x1b'));
}

#[test]
fn the_summary_tells_what_clients_saw() {
    let last = sample(10, [3_000_000_000, 1_000_000_000]);
    let waits = [5, 1, 3].map(Duration::from_millis);
    let out_after = Some(Duration::from_millis(203));
    let text = Summary { last: &last, stopped: "b", waits: &waits, out_after, in_after: None }.text(Paint::Plain);
    for part in [
        "a   1,234 sessions    3.00 GB   75 %",
        "1 failed connect went to another",
        "9 sessions were cut with backend b",
        "after 3.0 ms (median), 5.0 ms (longest)",
        "out of the pool after 203 ms, in it again not seen",
        "10,000 answers checked",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn numbers_are_readable() {
    assert_eq!([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!((bar(0.0), bar(0.5), bar(1.0 / 224.0)), (String::new(), "█".repeat(14), "▏".to_string()));
    assert_eq!(
        (shown(None), shown(Some(90_500)), shown(Some(12_000_000))),
        ("-".into(), "90 µs".into(), "12 ms".into())
    );
}
