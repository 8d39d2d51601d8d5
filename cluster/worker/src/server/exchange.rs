//! One protocol connection: handshake, then one request after the other.

use super::Context;
use crate::connection::{Connection, ConnectionError};
use crate::handoff::Wanted;
use crate::scheduler::{Inbox, Request, Ticket, failure};
use crate::validate;
use cluster_protocol::{ErrorCode, Generate, Message, Prefill, PrefillPlan, Tokens, WorkerError};
use std::sync::Arc;
use tokio::net::TcpStream;

pub(super) async fn serve(context: &Arc<Context>, stream: TcpStream) {
    let (mut connection, hello) = match Connection::accept(stream, &context.config.secret, || context.info()).await {
        Ok(accepted) => accepted,
        Err(error) => return tracing::info!(%error, "handshake failed"),
    };
    tracing::debug!(peer = ?hello.peer, peer_id = hello.peer_id, "connected");
    loop {
        let message = tokio::select! {
            message = connection.next_within(context.config.patience.idle) => message,
            () = context.draining.cancelled() => return,
        };
        let served = match message {
            Ok(message) => answer(context, &mut connection, message).await,
            Err(error) => Err(error),
        };
        match served {
            Ok(()) => {}
            Err(ConnectionError::Closed) => return,
            Err(error) => return tracing::info!(%error, peer_id = hello.peer_id, "connection ended"),
        }
    }
}

async fn answer(context: &Arc<Context>, connection: &mut Connection, message: Message) -> Result<(), ConnectionError> {
    let scheduler = &context.scheduler;
    let reply = match message {
        Message::Generate(generate) => return run_generate(context, connection, generate).await,
        Message::Prefill(prefill) => return run_prefill(context, connection, prefill).await,
        Message::Tokenize(text) => match validate::tokenize(&text) {
            Ok(()) => scheduler.tokenize(text.parts).await.map(|ids| Message::Tokens(Tokens { ids })),
            Err(error) => Err(error),
        },
        Message::DescribeModel => Ok(Message::Model(Box::new(scheduler.shared().description.card.clone()))),
        Message::QueryReceipt(query) => Ok(Message::Receipt(scheduler.receipt(&(query.request_id, query.attempt)))),
        // They crossed the end of the request they belonged to.
        Message::Extend(_) | Message::Stop => return Ok(()),
        Message::Hello(_)
        | Message::Welcome(_)
        | Message::Proof(_)
        | Message::Accepted(_)
        | Message::Token(_)
        | Message::Paused(_)
        | Message::Done(_)
        | Message::Error(_)
        | Message::KvBegin(_)
        | Message::KvChunk(_)
        | Message::KvCommit(_)
        | Message::Tokens(_)
        | Message::Model(_)
        | Message::Receipt(_) => return out_of_turn(connection).await,
    };
    connection.send(reply.unwrap_or_else(Message::Error)).await
}

async fn run_generate(
    context: &Arc<Context>,
    connection: &mut Connection,
    generate: Box<Generate>,
) -> Result<(), ConnectionError> {
    let description = &context.scheduler.shared().description;
    if let Err(error) = validate::generate(&generate, description) {
        return connection.send(Message::Error(error)).await;
    }
    let constraint = match context.constraints.compile(generate.constraint.as_ref(), description).await {
        Ok(constraint) => constraint,
        Err(error) => return connection.send(Message::Error(error)).await,
    };
    let wanted = match &generate.prefill {
        PrefillPlan::Remote { prefill_id } => Some(Wanted::new(prefill_id, &generate, description)),
        PrefillPlan::Local { .. } => None,
    };
    match context.scheduler.submit(Request::Generate(generate), constraint, wanted.is_some()) {
        Ok((ticket, inbox)) => relay(context, connection, ticket, wanted.zip(inbox)).await,
        Err(error) => connection.send(Message::Error(error)).await,
    }
}

async fn run_prefill(
    context: &Arc<Context>,
    connection: &mut Connection,
    prefill: Box<Prefill>,
) -> Result<(), ConnectionError> {
    let description = &context.scheduler.shared().description;
    let ready: Result<_, WorkerError> = match validate::prefill(&prefill, description, context.epoch) {
        Ok(()) => context.constraints.compile(prefill.constraint.as_ref(), description).await,
        Err(error) => Err(error),
    };
    match ready.and_then(|constraint| context.scheduler.submit(Request::Prefill(prefill), constraint, false)) {
        Ok((ticket, _)) => relay(context, connection, ticket, None).await,
        Err(error) => connection.send(Message::Error(error)).await,
    }
}

/// Carries a request's messages out and its controls in, to its last message. An early return drops the ticket, which
/// cancels, and the hand-off, which cancels at the prefill worker too.
async fn relay(
    context: &Arc<Context>,
    connection: &mut Connection,
    mut ticket: Ticket,
    mut handoff: Option<(Wanted, Inbox)>,
) -> Result<(), ConnectionError> {
    let mut fetching: futures::future::BoxFuture<'_, ()> = Box::pin(std::future::pending());
    loop {
        tokio::select! {
            message = ticket.next() => {
                let Some(message) = message else {
                    let error = failure(ErrorCode::Engine, "the engine ended");
                    return connection.send(Message::Error(error)).await;
                };
                // Slot and cells are held from here on, and only from here on a prefill worker is set to work.
                if matches!(message, Message::Accepted(_)) && let Some((wanted, inbox)) = handoff.take() {
                    let description = &context.scheduler.shared().description;
                    fetching = Box::pin(async move {
                        context.prefills.fetch(wanted, description, inbox).await;
                        std::future::pending::<()>().await;
                    });
                }
                let last = is_last(&message);
                connection.send(message).await?;
                if last {
                    return Ok(());
                }
            }
            incoming = connection.next() => match incoming? {
                Message::Extend(extend) => ticket.extend(extend.grant),
                Message::Stop => ticket.stop(),
                // Whatever else there is or will be has no place within a request.
                other => {
                    tracing::info!(kind = ?other.kind(), "a message out of turn");
                    return out_of_turn(connection).await;
                }
            },
            () = &mut fetching => {}
        }
    }
}

fn is_last(message: &Message) -> bool {
    matches!(message, Message::Done(_) | Message::KvCommit(_) | Message::Error(_))
}

async fn out_of_turn(connection: &mut Connection) -> Result<(), ConnectionError> {
    connection.send(Message::Error(failure(ErrorCode::BadRequest, "a message out of turn"))).await?;
    Err(ConnectionError::Closed)
}
