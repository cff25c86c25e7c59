use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::http::settings::HttpSettings;
use crate::metrics::Metrics;

/// Greets, whatever is sent, and counts.
#[derive(Default)]
struct Greeting(AtomicUsize);

/// Never answers.
struct Mute;

impl Service for Mute {
    async fn answer(self: Arc<Self>, _: SocketAddr, _: Request<Incoming>) -> Response<Full<Bytes>> {
        std::future::pending().await
    }
}

impl Service for Greeting {
    async fn answer(self: Arc<Self>, _: SocketAddr, _: Request<Incoming>) -> Response<Full<Bytes>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Response::new(Full::from("hello"))
    }
}

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn front<S: Service>(service: &Arc<S>) -> Front<S> {
    let tuning = Tuning::public(&HttpSettings::default(), Vec::new(), 1, &Metrics::new());
    Front::new(Arc::clone(service), tuning)
}

/// The peer's end of a connection, its task, and the listener's stage.
fn open() -> (DuplexStream, JoinHandle<()>, watch::Sender<Stage>) {
    open_to(&Arc::<Greeting>::default())
}

fn open_to<S: Service>(service: &Arc<S>) -> (DuplexStream, JoinHandle<()>, watch::Sender<Stage>) {
    let front = front(service);
    let (ours, theirs) = tokio::io::duplex(4096);
    let (stage, stages) = watch::channel(Stage::Serve);
    let peer = ([127, 0, 0, 1], 1).into();
    let task = tokio::spawn(async move { front.speak(Order::InTurn, ours, peer, stages).await });
    (theirs, task, stage)
}

async fn answered(theirs: &mut DuplexStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        assert_ne!(theirs.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

/// Proves that a connection serves on after each rest, whether a head comes at once, in two parts, or
/// in part with the head before it; and that silence ends it when it would have without a rest.
#[tokio::test(start_paused = true)]
async fn after_a_rest() {
    let (mut theirs, task, _stage) = open();
    let long = Duration::from_millis(limits::REST_MS * 2);
    let (begin, rest) = HEAD.split_at(9);
    for _ in 0..3 {
        theirs.write_all(HEAD).await.unwrap();
        answered(&mut theirs).await;
        sleep(long).await;
        theirs.write_all(begin).await.unwrap();
        sleep(long).await;
        theirs.write_all(rest).await.unwrap();
        answered(&mut theirs).await;
        theirs.write_all(&[HEAD, begin].concat()).await.unwrap();
        answered(&mut theirs).await;
        sleep(long).await;
        theirs.write_all(rest).await.unwrap();
        answered(&mut theirs).await;
    }
    let began = Instant::now();
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(began.elapsed().as_millis(), limits::IDLE_MS.into());
    drop(theirs);
    task.await.unwrap();
}

/// Proves that the rest of a body that was not wanted is no request, however late the connection's task finds
/// that it has to end: in the very poll in which it was to rest.
#[tokio::test(start_paused = true)]
async fn a_body_is_no_request() {
    const HALF: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf";
    let service = Arc::<Greeting>::default();
    let front = front(&service);
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (_stage, stages) = watch::channel(Stage::Serve);
    let mut speaks = pin!(front.speak(Order::InTurn, ours, ([127, 0, 0, 1], 1).into(), stages));
    let mut over = false;
    let mut speak = async || {
        if !over {
            over = poll_fn(|context| Poll::Ready(speaks.as_mut().poll(context).is_ready())).await;
        }
        over
    };
    theirs.write_all(HALF).await.unwrap();
    assert!(!speak().await);
    answered(&mut theirs).await;
    tokio::time::advance(Duration::from_millis(limits::REST_MS * 2)).await;
    for _ in 0..3 {
        speak().await;
        // It may have ended, as it should.
        let _ = theirs.write_all(HEAD).await;
    }
    assert_eq!(service.0.load(Ordering::Relaxed), 1);
}

/// Proves that a head that has begun when the connection has to end is answered, on a connection that has just been
/// used, on one that has rested, and on a new one; and is waited for as long as any, and no longer.
#[tokio::test(start_paused = true)]
async fn a_head_at_the_end() {
    let (begin, rest) = HEAD.split_at(9);
    for silence in [None, Some(0), Some(limits::REST_MS * 2)] {
        for comes in [true, false] {
            let (mut theirs, task, stage) = open();
            if let Some(silence) = silence {
                theirs.write_all(HEAD).await.unwrap();
                answered(&mut theirs).await;
                sleep(Duration::from_millis(silence)).await;
            }
            theirs.write_all(begin).await.unwrap();
            sleep(Duration::from_millis(1)).await;
            let began = Instant::now();
            stage.send_replace(Stage::Close);
            sleep(Duration::from_millis(1)).await;
            if comes {
                theirs.write_all(rest).await.unwrap();
            }
            let mut last = String::new();
            theirs.read_to_string(&mut last).await.unwrap();
            let answered = last.contains("connection: close") && last.ends_with("hello");
            assert_eq!(answered, comes, "{silence:?}: {last}");
            drop(theirs);
            task.await.unwrap();
            let head = Duration::from_millis(limits::HEAD_READ_MS);
            assert!(began.elapsed() <= head, "{silence:?}: {:?}", began.elapsed());
        }
    }
}

/// Proves that whoever says its end behind its requests is answered, and at once; that one who has had no
/// answer for long has gone; and that a connection that rests, or has nothing to answer, ends with it.
#[tokio::test(start_paused = true)]
async fn half_closed() {
    for requests in [1, 2, 3] {
        let (mut theirs, task, _stage) = open();
        theirs.write_all(&HEAD.repeat(requests)).await.unwrap();
        theirs.shutdown().await.unwrap();
        let began = Instant::now();
        let mut came = String::new();
        theirs.read_to_string(&mut came).await.unwrap();
        assert_eq!(came.matches("hello").count(), requests, "{came}");
        task.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "{requests}");
    }
    let (mut theirs, task, _stage) = open_to(&Arc::new(Mute));
    theirs.write_all(HEAD).await.unwrap();
    theirs.shutdown().await.unwrap();
    let began = Instant::now();
    task.await.unwrap();
    assert_eq!(began.elapsed().as_millis(), limits::HALF_CLOSED_MS.into());
    for silence in [0, limits::REST_MS / 2, limits::REST_MS * 2] {
        let (mut theirs, task, _stage) = open();
        theirs.write_all(HEAD).await.unwrap();
        answered(&mut theirs).await;
        sleep(Duration::from_millis(silence)).await;
        let began = Instant::now();
        theirs.shutdown().await.unwrap();
        task.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "{silence} ms after the answer");
    }
}

/// Proves that a connection that rests ends with its peer, and with the listener; and gives a last answer
/// before that where it is asked for one.
#[tokio::test(start_paused = true)]
async fn out_of_a_rest() {
    let long = Duration::from_millis(limits::REST_MS * 2);
    for stages in [&[][..], &[Stage::Close], &[Stage::Last, Stage::Close]] {
        let (mut theirs, task, stage) = open();
        theirs.write_all(HEAD).await.unwrap();
        answered(&mut theirs).await;
        sleep(long).await;
        let began = Instant::now();
        for &next in stages {
            stage.send_replace(next);
            tokio::task::yield_now().await;
        }
        if stages.is_empty() {
            drop(theirs);
        } else {
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "{stages:?}");
            drop(theirs);
        }
        task.await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(limits::LINGER_MS), "{stages:?}");
    }
    let (mut theirs, task, stage) = open();
    theirs.write_all(HEAD).await.unwrap();
    answered(&mut theirs).await;
    sleep(long).await;
    stage.send_replace(Stage::Last);
    sleep(long).await;
    theirs.write_all(HEAD).await.unwrap();
    let mut last = String::new();
    theirs.read_to_string(&mut last).await.unwrap();
    assert!(last.contains("connection: close") && last.ends_with("hello"), "{last}");
    drop(theirs);
    task.await.unwrap();
}
