//! An API server for tests.

pub(crate) mod api;

use crate::discover::http::testing::stub;

pub(crate) use api::{ApiFault, ApiServer};
