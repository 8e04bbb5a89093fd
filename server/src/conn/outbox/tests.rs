use std::sync::Arc;

use super::*;
use crate::conn::frame::{close_frame, text_frame};
use crate::conn::outbox::pipe::Pipe;

fn outbox(pipe: &Arc<Pipe>) -> Outbox {
    Outbox::new(Arc::<Pipe>::clone(pipe), Arc::default())
}

#[test]
fn an_empty_outbox_writes_through() {
    let pipe = Pipe::with_room(100);
    let outbox = outbox(&pipe);
    assert_eq!(outbox.push(&text_frame("one")), Pushed::Sent);
    assert_eq!(pipe.taken(), text_frame("one"));
    assert_eq!(outbox.demand(), Demand::Nothing);
}

#[test]
fn partial_writes_are_continued_in_order() {
    let pipe = Pipe::with_room(3);
    let outbox = outbox(&pipe);
    assert_eq!(outbox.push(&text_frame("one")), Pushed::Queued);
    assert_eq!(outbox.push(&text_frame("two")), Pushed::Queued);
    // The socket takes one byte at a time.
    while outbox.demand() == Demand::Flush {
        pipe.make_room(1);
        outbox.flush();
    }
    assert_eq!(pipe.taken(), [text_frame("one"), text_frame("two")].concat());
}

#[test]
fn a_slow_consumer_is_closed_at_a_frame_boundary() {
    let pipe = Pipe::with_room(10);
    let outbox = outbox(&pipe);
    let joined = Bytes::from([text_frame("first"), text_frame("second")].concat());
    assert_eq!(outbox.push(&joined), Pushed::Queued);
    let large = text_frame(&"x".repeat(limits::FRAME / 2));
    let pushed: Vec<Pushed> = (0..5).map(|_| outbox.push(&large)).collect();
    let queued = Pushed::Queued;
    assert_eq!(pushed, [queued, queued, queued, Pushed::Overflowed, Pushed::Closed]);
    assert!(outbox.state.lock().waiting.bytes() < 100, "its memory returns at once");
    pipe.make_room(1000);
    assert_eq!(outbox.flush(), Demand::Close);
    let close = close_frame(SLOW_CONSUMER, "reads too slowly; reconnect and resume");
    assert_eq!(pipe.taken(), [joined, close].concat());
    assert_eq!(outbox.close_code(), Some(SLOW_CONSUMER));
}

#[test]
fn a_held_outbox_puts_the_reply_first() {
    let pipe = Pipe::with_room(1000);
    let outbox = outbox(&pipe);
    let held = outbox.hold();
    assert_eq!(outbox.push(&text_frame("live")), Pushed::Queued);
    held.release(text_frame("reply"));
    assert_eq!(pipe.taken(), [text_frame("reply"), text_frame("live")].concat());
}

#[test]
fn a_held_outbox_keeps_what_was_queued_before() {
    let pipe = Pipe::with_room(1);
    let outbox = outbox(&pipe);
    outbox.push(&text_frame("earlier"));
    let held = outbox.hold();
    outbox.push(&text_frame("live"));
    held.release(text_frame("reply"));
    pipe.make_room(1000);
    assert_eq!(outbox.flush(), Demand::Nothing);
    let all = ["earlier", "reply", "live"].map(text_frame).concat();
    assert_eq!(pipe.taken(), all);
}

#[test]
fn dropping_the_hold_lets_the_others_through() {
    let pipe = Pipe::with_room(1000);
    let outbox = outbox(&pipe);
    let held = outbox.hold();
    outbox.push(&text_frame("live"));
    drop(held);
    assert_eq!(pipe.taken(), text_frame("live"));
}

#[test]
fn nothing_follows_a_close() {
    let pipe = Pipe::with_room(1000);
    let outbox = outbox(&pipe);
    outbox.close(1001, "restart");
    outbox.close(4001, "later");
    assert_eq!(outbox.push(&text_frame("late")), Pushed::Closed);
    outbox.flush();
    assert_eq!(pipe.taken(), close_frame(1001, "restart"));
}

#[test]
fn a_broken_socket_is_told_and_holds_nothing() {
    let pipe = Pipe::with_room(1);
    let outbox = outbox(&pipe);
    outbox.push(&text_frame("one"));
    pipe.break_off();
    assert_eq!(outbox.flush(), Demand::Broken);
    assert_eq!(outbox.push(&text_frame("two")), Pushed::Closed);
    assert!(!outbox.has_waiting());
}

#[test]
fn the_less_is_left_in_all_the_less_may_wait_for_one() {
    let backlog = Arc::new(Backlog::new(64 * 1_000));
    let stuck = || Outbox::new(Pipe::with_room(0), Arc::clone(&backlog));
    let (first, second) = (stuck(), stuck());
    let frame = text_frame(&"x".repeat(400));
    assert_eq!([first.push(&frame), first.push(&frame)], [Pushed::Queued; 2]);
    assert_eq!(backlog.bytes(), 2 * frame.len());
    assert_eq!(first.push(&frame), Pushed::Overflowed, "more than its share");
    assert_eq!(
        backlog.bytes(),
        close_frame(SLOW_CONSUMER, "reads too slowly; reconnect and resume").len()
    );

    // Each outbox may take 1/64 of the bytes that are left, so in the end even a short frame is
    // refused.
    let many: Vec<Outbox> = (0..150).map(|_| stuck()).collect();
    let queued = many.iter().filter(|outbox| outbox.push(&frame) == Pushed::Queued).count();
    assert!((60..150).contains(&queued), "{queued}");
    assert!(backlog.bytes() <= 64 * 1_000);
    drop(many);
    // The memory of the dropped outboxes is free again.
    assert_eq!([second.push(&frame), second.push(&frame)], [Pushed::Queued; 2]);
    drop((first, second));
    assert_eq!(backlog.bytes(), 0);
}
