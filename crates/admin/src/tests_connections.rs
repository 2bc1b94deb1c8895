//! S2: nobody takes the port from others without a token.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::serve;
use crate::tests::app;

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = serve(listener, app(None), None, async move {
        let _ = stopped.await;
    });
    let client = async {
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(TcpStream::connect(addr).await.unwrap());
        }
        let mut told = String::new();
        TcpStream::connect(addr).await.unwrap().read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("too-many-connections"), "{told}");
        // Those that it has are answered.
        let mut answer = String::new();
        held[63].write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        held[63].read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        stop.send(()).unwrap();
    };
    let (served, ()) = tokio::join!(serving, client);
    served.unwrap();
}
