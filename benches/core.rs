//! What every completion and every timer costs: tokens and the timing wheel.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::base::time::Moment;
use ringway::base::wheel::{TICK_NS, Wheel};
use ringway::kernel::token::{Operation, Token};

/// Sessions whose timers the wheel holds meanwhile.
const SESSIONS: u32 = 10_000;

fn tokens(criterion: &mut Criterion) {
    let token = Token { operation: Operation::RecvBackend, generation: 4711, index: 9_999 };
    criterion.bench_function("token, packed and unpacked", |bencher| {
        bencher.iter(|| Token::unpack(black_box(black_box(token).pack())));
    });
}

fn wheel(criterion: &mut Criterion) {
    let start = Moment(1_000_000_000);
    let mut wheel = Wheel::new(start);
    for key in 0..SESSIONS {
        wheel.set(key, start.after_ns(3_000_000_000 + u64::from(key) * 1_000), start);
    }
    criterion.bench_function("wheel, a timer set and cleared among 10,000", |bencher| {
        bencher.iter(|| {
            wheel.set(black_box(SESSIONS), start.after_ns(500_000_000), start);
            wheel.clear(black_box(SESSIONS));
        });
    });
    criterion.bench_function("wheel, the next moment among 10,000", |bencher| {
        bencher.iter(|| black_box(&wheel).next());
    });
    let mut now = start;
    criterion.bench_function("wheel, a timer that fires and is set again", |bencher| {
        bencher.iter(|| {
            wheel.set(SESSIONS, now.after_ns(TICK_NS), now);
            now = now.after_ns(2 * TICK_NS);
            while let Some(key) = wheel.expire(now) {
                if key != SESSIONS {
                    wheel.set(key, now.after_ns(40_000_000_000), now);
                }
            }
        });
    });
}

criterion_group!(benches, tokens, wheel);
criterion_main!(benches);
