//! A broker of events as Knative's is, in memory: takes them from anybody, passes each on to whoever has a trigger for its
//! type, in binary mode and without the `Authorization` it came with, again and again while that fails in a way that may
//! pass, and more often than once.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::DEADLINE;
use crate::event::CloudEvent;
use crate::http_server::{FREE_PORT, HttpServer, Posted, Reply};

/// Events that may wait to be passed on, and passed on that may wait for the test.
const WAITING_MAX: usize = 1024;
/// How often an event is passed on that was taken.
const TIMES: u32 = 2;
/// How often that is tried while it fails ...
const TRIES: u32 = 20;
/// ... and how long after the time before.
const PAUSE: Duration = Duration::from_millis(100);
/// Statuses that may pass: those of Knative's data plane ("Event Acknowledgement and Delivery Retry"), and 408, which its code adds.
const MAY_PASS: [u16; 4] = [404, 408, 409, 429];

/// Which events go where.
type Triggers = Arc<Mutex<Vec<(&'static str, String)>>>;

/// The broker. Dropping it closes the port.
pub struct Broker {
    server: HttpServer,
    triggers: Triggers,
    outcomes: mpsc::Receiver<(String, u16)>,
    _passing_on: JoinSet<()>,
}

impl Broker {
    /// Starts one without triggers.
    pub async fn start() -> Self {
        let triggers = Triggers::default();
        let (taken, passing) = mpsc::channel(WAITING_MAX);
        let (told, outcomes) = mpsc::channel(WAITING_MAX);
        let server = HttpServer::start(FREE_PORT, move |posted| ready(take(&posted, &taken))).await;
        let mut passing_on = JoinSet::new();
        passing_on.spawn(pass_on(passing, Arc::clone(&triggers), told));
        Self { server, triggers, outcomes, _passing_on: passing_on }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address())
    }

    /// From now on events of this type are passed on to `subscriber`.
    pub fn trigger(&self, event_type: &'static str, subscriber: impl Into<String>) {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner).push((event_type, subscriber.into()));
    }

    /// What the next event of this type was answered with, at last, each of the times that it was passed on.
    pub async fn passed_on(&mut self, event_type: &str) -> u16 {
        let find = async {
            loop {
                let (of, status) = self.outcomes.recv().await.expect("the broker runs");
                if of == event_type {
                    return status;
                }
            }
        };
        timeout(DEADLINE, find).await.expect("an event is passed on")
    }
}

fn take(posted: &Posted, taken: &mpsc::Sender<CloudEvent>) -> Reply {
    Reply::status(match CloudEvent::of(posted) {
        Ok(event) => taken.try_send(event).map_or(429, |()| 202),
        Err(_) => 400,
    })
}

async fn pass_on(
    mut passing: mpsc::Receiver<CloudEvent>,
    triggers: Triggers,
    told: mpsc::Sender<(String, u16)>,
) {
    let http = crate::rest::http_client();
    while let Some(event) = passing.recv().await {
        let event_type = event.attributes["type"].clone();
        let subscribers: Vec<String> = {
            let triggers = triggers.lock().unwrap_or_else(PoisonError::into_inner);
            triggers.iter().filter(|(of, _)| *of == event_type).map(|(_, to)| to.clone()).collect()
        };
        for subscriber in subscribers {
            for _ in 0..TIMES {
                let status = deliver(&http, &subscriber, &event).await;
                let _ = told.send((event_type.clone(), status)).await;
            }
        }
    }
}

/// Until it is taken or refused for good; 0 if nobody was ever there.
async fn deliver(http: &reqwest::Client, subscriber: &str, event: &CloudEvent) -> u16 {
    let mut status = 0;
    let mut again = interval(PAUSE);
    for _ in 0..TRIES {
        again.tick().await;
        let mut request = http.post(subscriber).body(event.data.clone());
        for (name, value) in event.headers() {
            request = request.header(name, value);
        }
        status = request.send().await.map_or(0, |response| response.status().as_u16());
        if status != 0 && status < 500 && !MAY_PASS.contains(&status) {
            break;
        }
    }
    status
}
