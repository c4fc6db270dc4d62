//! What the tests of sources use: a server of HTTP, and what a source tells.

pub(crate) mod stub;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Notify;

pub(crate) use stub::{Stub, StubRequest, Wire, begin_chunks, chunk, reply};

use crate::discover::found::{Answer, Found, News};
use crate::discover::settings::Endpoint;

/// A source that takes longer fails its test.
const PATIENCE: Duration = Duration::from_secs(60);

impl Stub {
    /// Where it listens.
    pub fn endpoint(&self) -> Endpoint {
        let address = self.address();
        Endpoint { is_tls: self.is_tls(), host: address.ip().to_string().into(), port: address.port() }
    }
}

/// What a source has told and the test has not looked at yet.
#[derive(Default)]
pub(crate) struct NewsLog {
    all: RefCell<VecDeque<News>>,
    more: Notify,
}

impl NewsLog {
    /// A source tells it.
    pub fn tell(&self, news: News) {
        self.all.borrow_mut().push_back(news);
        self.more.notify_one();
    }

    /// The next news.
    pub async fn next(&self) -> News {
        loop {
            if let Some(news) = self.all.borrow_mut().pop_front() {
                return news;
            }
            self.more.notified().await;
        }
    }

    /// The next answer, past everything else.
    pub async fn answer(&self) -> Answer {
        loop {
            if let News::Answer(answer) = self.next().await {
                return answer;
            }
        }
    }

    /// The next failure, past everything else.
    pub async fn failure(&self) -> String {
        loop {
            if let News::Failed(why) = self.next().await {
                return why;
            }
        }
    }
}

/// The addresses of an answer, in its order.
pub(crate) fn addresses(answer: &Answer) -> Vec<String> {
    answer.found.iter().map(Found::address).collect()
}

/// Runs a source for as long as a test goes on.
pub(crate) async fn beside<T>(source: impl Future<Output = ()>, test: impl Future<Output = T>) -> T {
    tokio::select! {
        () = source => panic!("a source goes on for ever"),
        result = test => result,
    }
}

/// Runs a future as control does: on one thread, with local tasks, and not for ever.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(PATIENCE, future).await.expect("it takes too long") };
    tokio::task::LocalSet::new().block_on(&runtime, bounded)
}
