//! CONNECT: a tunnel whose bytes nobody looks at.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_types::{Body, BodyError, Clock, Time};
use farthing_upstream::blind;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};

use super::counts::{Meter, Metered, To};
use super::{Destination, reach};
use crate::edge::Tunnel;
use crate::live::Live;
use crate::state::State;

/// Connects, and lets the client's connection go on as a tunnel.
pub(super) async fn open(state: Arc<State>, live: Arc<Live>, request: Request<Body>, to: Destination, local: SocketAddr) -> Response<Body> {
    let Some(forward) = &live.config.forward else { return Response::new(Body::empty()) };
    let stream = match reach::connect(&state, forward, &to).await {
        Ok(stream) => stream,
        Err(refused) => return state.forwarding.refuse(refused),
    };
    let host = state.forwarding.unobserved.host(&to.host);
    host.tunnels.fetch_add(1, Relaxed);
    let meter = Meter::of(host);
    let up = Metered::body(request.into_body(), &meter, To::Host);
    let down = Metered::body(blind(stream, up, &state.tasks), &meter, To::Client);
    let instead = super::instead(&live, local, &to);
    let ending = Ending { clock: state.real.clone(), since: state.real_now(), to, meter, instead };
    let mut response = Response::new(Body::stream(Told { down, _ending: ending }));
    response.extensions_mut().insert(Tunnel { idle: forward.idle, longest: forward.longest });
    response
}

/// What comes through a tunnel; its end is told with it.
struct Told {
    down: Body,
    _ending: Ending,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.down).poll_frame(cx)
    }
}

struct Ending {
    clock: Arc<dyn Clock>,
    since: Time,
    to: Destination,
    meter: Arc<Meter>,
    instead: Option<String>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let ([up, down], Destination { host, port }) = (self.meter.bytes(), &self.to);
        let ms = self.clock.now().since(self.since).as_millis();
        match &self.instead {
            Some(base_url) => tracing::info!(
                %host, port, up, down, ms, base_url,
                "a tunnel has ended, unobserved: with this base URL the client's calls would take the route to the host"
            ),
            None => tracing::info!(
                %host, port, up, down, ms,
                "a tunnel has ended, unobserved: no route leads to the host; a provider with its URL would give it one"
            ),
        }
    }
}
