//! Records in and out of the fake: the service `dlog.v1.Log`.

use super::{Action, Node, State};
use dlog_core::{BatchHeader, ErrorCode, ErrorDetail, PartitionIndex};
use dlog_protocol::v1::{self, log_server::Log};
use dlog_protocol::{ConsumeInput, ListOffsetsInput, ProduceInput, status};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

impl Node {
    /// `None`: end the stream.
    fn produce_one(&self, input: ProduceInput) -> Option<Result<Option<v1::ProduceResponse>, ()>> {
        let action = {
            let mut state = self.fake.state();
            let action = (state.produce_rule)(self.id, &input);
            state.produced.push((self.id, input.clone()));
            action
        };
        self.fake.changed.send_replace(());
        let respond = |result: Result<(u64, u64, bool), ErrorDetail>| {
            let mut response = v1::ProduceResponse { request_id: input.request_id, ..Default::default() };
            match result {
                Ok((base, last, duplicate)) => {
                    (response.base_offset, response.last_offset, response.duplicate) = (base, last, duplicate);
                }
                Err(error) => response.error = Some(status::to_message(&error)),
            }
            response
        };
        let append = || {
            if self.fake.state().leader != Some(self.id) {
                return Err(self.fake.error(ErrorCode::NotLeader, true));
            }
            let appended = self.fake.state().logs[input.partition.0 as usize].append(&input.batch);
            appended.map_err(|code| self.fake.error(code, false))
        };
        match action {
            Action::Serve => {
                let result = append();
                self.fake.changed.send_replace(());
                Some(Ok(Some(respond(result))))
            }
            Action::AppendAndCut => {
                append().expect("the test cuts a leader");
                None
            }
            Action::AppendAndIgnore => {
                append().expect("the test cuts a leader");
                Some(Ok(None))
            }
            Action::Cut => None,
            Action::Ignore => Some(Ok(None)),
            Action::Refuse(error) => Some(Ok(Some(respond(Err(error))))),
        }
    }
}

#[tonic::async_trait]
impl Log for Node {
    type ProduceStream = UnboundedReceiverStream<Result<v1::ProduceResponse, Status>>;
    type ConsumeStream = Pin<Box<dyn Stream<Item = Result<v1::ConsumeResponse, Status>> + Send>>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (node, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let input = ProduceInput::try_from(request).expect("the client sends valid requests");
                match node.produce_one(input) {
                    Some(Ok(Some(response))) => sender.send(Ok(response)).unwrap_or(()),
                    Some(_) => {}
                    None => {
                        sender.send(Err(Status::unavailable("the connection was cut"))).unwrap_or(());
                        return;
                    }
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn produce_once(
        &self,
        _request: Request<v1::ProduceOnceRequest>,
    ) -> Result<Response<v1::ProduceOnceResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        let input = ConsumeInput::try_from(request.into_inner()).expect("the client sends valid requests");
        self.fake.set(|state| state.consumed.push((self.id, input.clone())));
        let (sender, receiver) = mpsc::unbounded_channel();
        let node = self.clone();
        tokio::spawn(async move {
            if let Err(error) = node.serve(&input, &sender).await {
                sender.send(Err(error)).unwrap_or(());
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        let input = ListOffsetsInput::try_from(request.into_inner()).expect("the client sends valid requests");
        self.fake.set(|state| state.offsets_asked.push((self.id, input.clone())));
        if self.fake.state().silent.contains(&self.id) {
            std::future::pending::<()>().await;
        }
        if !input.local && self.fake.state().leader != Some(self.id) {
            return Err(status::to_status(&self.fake.error(ErrorCode::NotLeader, true)));
        }
        if input.linearizable {
            self.confirm(&input.partitions).map_err(|error| status::to_status(&error))?;
        }
        let state = self.fake.state();
        let of = |partition: &PartitionIndex| {
            let end = state.logs[partition.0 as usize].end();
            let end = if input.local { end.min(self.has(&state)) } else { end };
            v1::PartitionOffsets {
                partition: partition.0,
                log_start: state.log_start,
                high_watermark: end,
                last_records_offset: input.last_records.map(|count| end.saturating_sub(count)),
                ..v1::PartitionOffsets::default()
            }
        };
        Ok(Response::new(v1::ListOffsetsResponse { partitions: input.partitions.iter().map(of).collect() }))
    }
}

type Answers = mpsc::UnboundedSender<Result<v1::ConsumeResponse, Status>>;

impl Node {
    /// Up to where this node has its logs.
    fn has(&self, state: &State) -> u64 {
        state.has.get(&self.id).copied().unwrap_or(u64::MAX)
    }

    /// What a linearizable read asks for: a leader, and everything that it has.
    fn confirm(&self, partitions: &[PartitionIndex]) -> Result<(), ErrorDetail> {
        if self.fake.state().leader.is_none() {
            return Err(self.fake.error(ErrorCode::NoLeader, false));
        }
        let state = self.fake.state();
        let lags = partitions.iter().any(|partition| state.logs[partition.0 as usize].end() > self.has(&state));
        drop(state);
        if lags { Err(self.fake.error(ErrorCode::NotYetAvailable, true)) } else { Ok(()) }
    }

    async fn serve(&self, input: &ConsumeInput, answers: &Answers) -> Result<(), Status> {
        let mut changed = self.fake.changed.subscribe();
        if input.linearizable {
            self.confirm(&[input.partition]).map_err(|error| status::to_status(&error))?;
        }
        let mut next = input.from.0;
        loop {
            let (batches, has, log_start) = {
                let state = self.fake.state();
                (state.logs[input.partition.0 as usize].batches.clone(), self.has(&state), state.log_start)
            };
            if next < log_start {
                return Err(status::to_status(&self.fake.error(ErrorCode::OffsetOutOfRange, false)));
            }
            for batch in batches {
                let header = BatchHeader::decode(&batch).expect("own");
                let end = header.next_offset().0;
                let wanted = input.until.is_none_or(|until| next < until.0);
                if end <= next || end > has || !wanted {
                    continue;
                }
                next = end;
                let batch = (self.fake.state().consume_rule)(self.id, batch)?;
                let answer =
                    v1::ConsumeResponse { batches: vec![batch], next_offset: next, high_watermark: next, log_start };
                if answers.send(Ok(answer)).is_err() {
                    return Ok(());
                }
            }
            if input.until.is_some_and(|until| next >= until.0) {
                return Ok(());
            }
            if !input.follow {
                return Err(status::to_status(&self.fake.error(ErrorCode::NotYetAvailable, true)));
            }
            tokio::select! {
                () = answers.closed() => return Ok(()),
                woken = changed.changed() => if woken.is_err() { return Ok(()) },
                // As a real replica that has nothing new: the marks.
                () = tokio::time::sleep(input.max_wait) => {
                    let marks = v1::ConsumeResponse { next_offset: next, high_watermark: next, log_start, ..Default::default() };
                    answers.send(Ok(marks)).unwrap_or(());
                }
            }
        }
    }
}
