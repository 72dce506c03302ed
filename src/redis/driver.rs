//! What reads and writes on a connection: a task, and in its place whoever asks while nobody else does. Who is alone so
//! has the question on its way without waiting for the thread of the task to wake up. Answers are read by the task alone:
//! nobody knows how much of a stack those who ask have, and what comes may be hostile.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinHandle};

use super::alarm::Alarm;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// It ends with the last who may ask.
pub(super) struct Driver {
    work: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    /// Until it has ended.
    work: Mutex<Option<Work>>,
    alarm: Arc<Alarm>,
    /// There are no further answers, though the task may not have ended yet.
    is_over: AtomicBool,
}

impl Driver {
    /// With the alarm that says, to what the work reads from, whether it may be read now.
    pub(super) fn start(
        work: impl Future<Output = ()> + Send + 'static,
        alarm: Arc<Alarm>,
    ) -> (Self, JoinHandle<()>) {
        let work = Arc::new(Shared {
            work: Mutex::new(Some(Box::pin(work))),
            alarm,
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&work);
        let task = tokio::spawn(poll_fn(move |context| {
            shared.alarm.is_for(context.waker());
            shared.go_on()
        }));
        let driver = Self {
            work,
            task: task.abort_handle(),
        };
        (driver, task)
    }

    /// Asks, and writes what is asked at once.
    pub(super) async fn ask_alone<T>(&self, question: impl Future<Output = T>) -> T {
        let mut question = pin!(question);
        let begun = poll_fn(|context| {
            let Some(mut work) = self.work.work.try_lock() else {
                return Poll::Ready(question.as_mut().poll(context));
            };
            let alarm = &self.work.alarm;
            alarm.hold();
            let begun = question.as_mut().poll(context);
            alarm.forget();
            // It writes. What there is to read it leaves to the task.
            let _ = self.work.poll(&mut work);
            alarm.let_go();
            drop(work);
            self.work.end_if_over();
            Poll::Ready(begun)
        });
        match begun.await {
            Poll::Ready(answer) => answer,
            Poll::Pending => question.await,
        }
    }

    /// Nobody gets an answer any more.
    pub(super) fn cut(&self) {
        self.work.is_over.store(true, SeqCst);
        self.work.end();
        self.task.abort();
    }

    pub(super) fn is_over(&self) -> bool {
        self.work.is_over.load(SeqCst) || self.task.is_finished()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn go_on(&self) -> Poll<()> {
        let Some(mut work) = self.work.try_lock() else {
            // Who has it wakes the task when they let go.
            self.alarm.wake_by_ref();
            return Poll::Pending;
        };
        let polled = self.poll(&mut work);
        drop(work);
        self.end_if_over();
        polled
    }

    /// Nobody waits any longer for what is still to come. Who does the work at the moment looks afterwards.
    fn end(&self) {
        let work = self.work.try_lock().and_then(|mut work| work.take());
        drop(work);
    }

    fn end_if_over(&self) {
        if self.is_over.load(SeqCst) {
            self.end();
        }
    }

    fn poll(&self, work: &mut Option<Work>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(&self.alarm));
        let polled = match work {
            Some(work) => work.as_mut().poll(&mut Context::from_waker(&waker)),
            None => Poll::Ready(()),
        };
        if polled.is_ready() {
            self.is_over.store(true, SeqCst);
            *work = None;
            self.alarm.wake_task();
        }
        polled
    }
}
