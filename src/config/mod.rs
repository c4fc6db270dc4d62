//! Configuration: what was written (`raw`), what it means (`model`), and every error at once (`error`).

pub mod model;
