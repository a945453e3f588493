//! `FeatureService` over gRPC.

use std::pin::Pin;
use std::sync::Arc;

use millrace_grpc::status::fault;
use millrace_grpc::{
    Caller, Coded as _, Deadline, Drain, Fault, PeerNetwork, peer_of, status, trace_of,
};
use millrace_proto::convert::{ConvertError, from_timestamp};
use millrace_proto::v1;
use millrace_proto::v1::feature_service_server::FeatureService;
use millrace_telemetry::Span;
use millrace_types::EntityKey;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::answer::response;
use crate::error::ReadError;
use crate::explain::{self, FACTS_DEFAULT, FACTS_MAX, Question};
use crate::pipeline::pipeline;
use crate::read::{Moment, Read, Reader};
use crate::training;

/// The service.
pub struct FeatureServing {
    reader: Arc<Reader>,
    drain: Drain,
}

impl FeatureServing {
    /// Serves reads of this reader until the drain starts.
    #[must_use]
    pub fn new(reader: Arc<Reader>, drain: Drain) -> Self {
        Self { reader, drain }
    }
}

fn invalid(field: &str, error: ConvertError) -> ReadError {
    let error = error.within(field);
    ReadError::Invalid { field: error.field().to_owned(), rule: error.rule().to_string() }
}

fn to_moment(moment: i32) -> Result<Moment, ReadError> {
    match v1::Moment::try_from(moment) {
        Ok(v1::Moment::Latest) => Ok(Moment::Latest),
        Ok(v1::Moment::Now | v1::Moment::Unspecified) => Ok(Moment::Now),
        Err(_) => {
            Err(ReadError::Invalid { field: "moment".to_owned(), rule: "NOW or LATEST".to_owned() })
        }
    }
}

fn to_question(request: v1::ExplainRequest, peer: PeerNetwork) -> Result<Question, ReadError> {
    use v1::explain_request::Instant;

    let key = EntityKey::try_from(&request.entity.unwrap_or_default());
    let moment = match request.instant {
        Some(Instant::At(at)) => Moment::At(from_timestamp(&at).map_err(|e| invalid("at", e))?),
        Some(Instant::Moment(m)) => to_moment(m)?,
        None => Moment::Now,
    };
    let known_at = request.known_at.map(|k| from_timestamp(&k));
    let max = match request.max_facts {
        0 => FACTS_DEFAULT,
        1..=FACTS_MAX => request.max_facts,
        more => {
            let (field, rule) =
                ("max_facts".to_owned(), format!("at most {FACTS_MAX}, not {more}"));
            return Err(ReadError::Invalid { field, rule });
        }
    };
    Ok(Question {
        view: request.view,
        key: key.map_err(|e| invalid("entity", e))?,
        feature: request.feature,
        moment,
        known_at: known_at.transpose().map_err(|e| invalid("known_at", e))?,
        max: max as usize,
        peer,
    })
}

fn to_read(request: v1::GetFeaturesRequest, peer: PeerNetwork) -> Result<Read, ReadError> {
    use v1::get_features_request::Instant;

    let keys = request
        .entities
        .iter()
        .enumerate()
        .map(|(i, key)| EntityKey::try_from(key).map_err(|e| invalid(&format!("entities[{i}]"), e)))
        .collect::<Result<_, _>>()?;
    let moment = match request.instant {
        Some(Instant::At(at)) => Moment::At(from_timestamp(&at).map_err(|e| invalid("at", e))?),
        Some(Instant::Moment(m)) => to_moment(m)?,
        None => Moment::Now,
    };
    let known_at = request
        .known_at
        .map(|k| from_timestamp(&k).map_err(|e| invalid("known_at", e)))
        .transpose()?;
    Ok(Read { view: request.view, keys, features: request.features, moment, known_at, peer })
}

async fn answer(
    reader: &Reader,
    request: v1::GetFeaturesRequest,
    peer: PeerNetwork,
) -> Result<v1::GetFeaturesResponse, ReadError> {
    Ok(response(reader.read(to_read(request, peer)?).await?))
}

#[tonic::async_trait]
impl FeatureService for FeatureServing {
    async fn get_features(
        &self,
        request: Request<v1::GetFeaturesRequest>,
    ) -> Result<Response<v1::GetFeaturesResponse>, Status> {
        Caller::of(&request).may_read(&request.get_ref().view)?;
        let span = Span::server("read features", || trace_of(&request));
        let peer = peer_of(&request);
        let read = answer(&self.reader, request.into_inner(), peer);
        match span.around(read).await {
            Ok(response) => Ok(Response::new(response)),
            Err(error) => {
                span.fail(error.code().reason());
                Err(status(&error))
            }
        }
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Caller::of(&request).may_read(&request.get_ref().view)?;
        let span = Span::server("explain", || trace_of(&request));
        let peer = peer_of(&request);
        let explain = async {
            let question = to_question(request.into_inner(), peer)?;
            Ok(explain::response(self.reader.explain(question).await?))
        };
        span.around(explain).await.map(Response::new).map_err(|e: ReadError| {
            span.fail(e.code().reason());
            status(&e)
        })
    }

    type GetTrainingSetStream =
        Pin<Box<dyn Stream<Item = Result<v1::GetTrainingSetResponse, Status>> + Send>>;

    async fn get_training_set(
        &self,
        request: Request<Streaming<v1::GetTrainingSetRequest>>,
    ) -> Result<Response<Self::GetTrainingSetStream>, Status> {
        let caller = Caller::of(&request);
        let span = Span::server("make a training set", || trace_of(&request));
        let peer = peer_of(&request);
        let (reader, drain) = (self.reader.clone(), self.drain.clone());
        let parts = training::grpc::answer(reader, caller, peer, span, drain, request).await?;
        Ok(Response::new(Box::pin(parts)))
    }

    type StreamFeaturesStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamFeaturesResponse, Status>> + Send>>;

    async fn stream_features(
        &self,
        request: Request<Streaming<v1::StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        let reader = self.reader.clone();
        let caller = Caller::of(&request);
        let (trace, peer) = (trace_of(&request), peer_of(&request));
        let deadline = Deadline::of(&request);
        let answers = pipeline(deadline, request.into_inner(), move |message| {
            let (reader, caller) = (reader.clone(), caller.clone());
            let trace = trace.clone();
            async move {
                let span = Span::server("read features", || trace);
                span.around(one_of_many(&reader, &caller, peer, message)).await
            }
        });
        let end = futures::stream::once(async move { Err(Drain::status()) });
        let started = self.drain.started();
        let until = futures::StreamExt::take_until(answers, started);
        let drain = self.drain.clone();
        // A call that ends because its client is done ends well; one cut by the drain says so.
        let tail =
            futures::StreamExt::filter(end, move |_| futures::future::ready(drain.is_started()));
        Ok(Response::new(Box::pin(until.chain(tail))))
    }
}

async fn one_of_many(
    reader: &Reader,
    caller: &Caller,
    peer: PeerNetwork,
    message: v1::StreamFeaturesRequest,
) -> v1::StreamFeaturesResponse {
    use v1::stream_features_response::Outcome;

    let refused = |fault: &Fault| {
        Outcome::Error(v1::ReadError {
            code: fault.code().grpc_code() as i32,
            reason: fault.code().reason().to_owned(),
            message: fault.message().to_owned(),
            metadata: fault.metadata().clone().into_iter().collect(),
        })
    };
    let read = message.read.unwrap_or_default();
    let outcome = match caller.may_read(&read.view) {
        Ok(()) => match answer(reader, read, peer).await {
            Ok(response) => Outcome::Features(response),
            Err(error) => refused(&fault(&error)),
        },
        Err(fault) => refused(&fault),
    };
    v1::StreamFeaturesResponse { tag: message.tag, outcome: Some(outcome) }
}
