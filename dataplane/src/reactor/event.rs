//! Conditions that tasks of one shard wait for: stop, resume.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A condition that is set once and stays set.
#[derive(Default)]
pub struct Latch {
    set: Cell<bool>,
    bell: Bell,
}

impl Latch {
    /// Sets it and wakes all who wait.
    pub fn set(&self) {
        self.set.set(true);
        self.bell.ring();
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until it is set.
    pub async fn wait(&self) {
        self.bell.wait_until(|| self.set.get()).await;
    }
}

/// Wakes the tasks that wait for something to change.
#[derive(Default)]
pub struct Bell {
    wakers: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Wakes all who wait; each looks at its condition again.
    pub fn ring(&self) {
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }

    /// Waits until the condition holds; it is looked at now and after each ring.
    pub async fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        poll_fn(|context| {
            if condition() {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
