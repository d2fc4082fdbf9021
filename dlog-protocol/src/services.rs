//! Clients and servers of every service with the same message bounds on both sides, from one constant.

use crate::v1;
use dlog_core::limits::GRPC_MESSAGE_BYTES_MAX;
use tonic::transport::Channel;

/// Makes, for each service, one function for its client and one for its server.
macro_rules! bounded {
    ($($client:ident, $server:ident: $module_client:ident::$client_type:ident, $module_server:ident::$server_type:ident, $trait:ident;)+) => {
        $(
            /// A client of this service that sends and takes messages up to [`GRPC_MESSAGE_BYTES_MAX`].
            pub fn $client(channel: Channel) -> v1::$module_client::$client_type<Channel> {
                v1::$module_client::$client_type::new(channel)
                    .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            }

            /// This service for a server, sending and taking messages up to [`GRPC_MESSAGE_BYTES_MAX`].
            pub fn $server<T: v1::$module_server::$trait>(service: T) -> v1::$module_server::$server_type<T> {
                v1::$module_server::$server_type::new(service)
                    .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            }
        )+
    };
}

bounded! {
    log_client, log_server: log_client::LogClient, log_server::LogServer, Log;
    admin_client, admin_server: admin_client::AdminClient, admin_server::AdminServer, Admin;
    cluster_client, cluster_server: cluster_client::ClusterClient, cluster_server::ClusterServer, Cluster;
    peer_client, peer_server: peer_client::PeerClient, peer_server::PeerServer, Peer;
}
