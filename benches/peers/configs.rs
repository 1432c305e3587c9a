//! The contenders' configuration files: the same listeners, route, split, pool, deadlines and headers in each one's
//! own words. docs/BENCHMARKS.md lists what is made equal and what cannot be.

use std::path::Path;

use crate::HOST;
use crate::tls::Identity;

/// What a configuration is made from.
pub(crate) struct Facts<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) identity: &'a Identity,
    pub(crate) plain: u16,
    pub(crate) tls: u16,
    pub(crate) stats: u16,
    pub(crate) origins: (u16, u16),
}

/// What differs between scenarios.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Routes beside the one that the load takes; Weir only.
    pub(crate) routes: usize,
    /// The split; Weir only.
    pub(crate) split: (u8, u8),
    /// The endpoints speak HTTP/2.
    pub(crate) http2: bool,
    /// An access log is written into a file; Weir only.
    pub(crate) access_log: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { routes: 0, split: (90, 10), http2: false, access_log: false }
    }
}

/// Weir.
pub(crate) fn weir(facts: &Facts<'_>, runtime: &str, shape: &Shape) -> String {
    let Shape { routes, split, .. } = *shape;
    let protocol = if shape.http2 { "h2" } else { "http1" };
    let log = format!("access_log: {{ output: \"{}/access.log\" }}\n", facts.folder.display());
    let log = if shape.access_log { &log } else { "" };
    let Facts { folder, identity, plain, tls, stats, origins: (v1, v2) } = facts;
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    let folder = folder.display();
    let mut text = format!(
        r#"version: 1
listeners:
  - {{ name: plain, address: "127.0.0.1:{plain}" }}
  - name: tls
    address: "127.0.0.1:{tls}"
    tls: {{ certificates: [ {{ cert: "{certificate}", key: "{key}" }} ] }}
telemetry: {{ address: "127.0.0.1:{stats}" }}
admin: {{ address: "unix:{folder}/admin.sock" }}
runtime: {{ threads: 1{runtime} }}
state: {{ directory: "{folder}/state" }}
shutdown: {{ deadline: 1s }}
limits: {{ header_timeout: 10s, keepalive: 60s }}
{log}services:
  shop:
    protocol: {protocol}
    versions:
      v1: {{ endpoints: ["127.0.0.1:{v1}"] }}
      v2: {{ endpoints: ["127.0.0.1:{v2}"] }}
    split: {{ v1: {}, v2: {} }}
    pool: {{ idle_timeout: 60s }}
routes:
  - {{ match: {{ host: {HOST} }}, service: shop }}
"#,
        split.0, split.1
    );
    for at in 0..routes {
        let (host, path) = (at / 10, at % 10);
        text +=
            &format!("  - {{ match: {{ host: host-{host}.example.com, path: /api/path-{path} }}, service: shop }}\n");
    }
    text
}

/// HAProxy.
pub(crate) fn haproxy(facts: &Facts<'_>, shape: &Shape) -> String {
    let protocol = if shape.http2 { " proto h2" } else { "" };
    let Facts { identity, plain, tls, stats, origins: (v1, v2), .. } = facts;
    let bundle = identity.bundle.display();
    format!(
        "global
  nbthread 1
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 30s
  timeout http-request 10s
  timeout http-keep-alive 60s
  option forwardfor
  http-reuse always
frontend web
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {bundle} alpn h2,http/1.1
  acl shop hdr(host) -i {HOST}
  use_backend shop if shop
backend shop
  balance roundrobin
  server v1 127.0.0.1:{v1} weight 90{protocol}
  server v2 127.0.0.1:{v2} weight 10{protocol}
frontend stats
  bind 127.0.0.1:{stats}
  http-request use-service prometheus-exporter if {{ path /metrics }}
"
    )
}

/// nginx.
pub(crate) fn nginx(facts: &Facts<'_>) -> String {
    let Facts { folder, identity, plain, tls, stats, origins: (v1, v2) } = facts;
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    let folder = folder.display();
    format!(
        r#"daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{}
events {{ worker_connections 15000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_header_timeout 10s;
  client_max_body_size 0;
  keepalive_timeout 60s;
  keepalive_requests 1000000000;
  upstream shop {{
    server 127.0.0.1:{v1} weight=90;
    server 127.0.0.1:{v2} weight=10;
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
  }}
  server {{
    listen 127.0.0.1:{plain} default_server;
    listen 127.0.0.1:{tls} ssl http2 default_server;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    return 404;
  }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl http2;
    server_name {HOST};
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_connect_timeout 1s;
      proxy_read_timeout 30s;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
  server {{
    listen 127.0.0.1:{stats};
    location /metrics {{ stub_status; }}
  }}
}}
"#,
        // Started by root, its worker would become another user, who cannot read the folder.
        if rustix::process::geteuid().is_root() { "user root;" } else { "" }
    )
}

/// Envoy.
pub(crate) fn envoy(facts: &Facts<'_>) -> String {
    let Facts { identity, plain, tls, stats, origins: (v1, v2), .. } = facts;
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    const HCM: &str =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
    const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = format!(
        r#"      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {HCM}
          stat_prefix: web
          use_remote_address: true
          generate_request_id: false
          request_headers_timeout: 10s
          common_http_protocol_options: {{ idle_timeout: 60s }}
          http_filters: [ {{ name: envoy.filters.http.router, typed_config: {{ "@type": {ROUTER} }} }} ]
          route_config:
            virtual_hosts:
            - name: shop
              domains: ["{HOST}"]
              routes:
              - match: {{ prefix: "/" }}
                route:
                  timeout: 30s
                  weighted_clusters: {{ clusters: [ {{ name: v1, weight: 90 }}, {{ name: v2, weight: 10 }} ] }}
"#
    );
    let cluster = |name: &str, port: u16| {
        format!(
            r#"  - name: {name}
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: {name}
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }} ] }} ]
"#
        )
    };
    format!(
        r#"admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {stats} }} }} }}
static_resources:
  listeners:
  - name: plain
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {plain} }} }}
    filter_chains:
    - filters:
{manager}  - name: tls
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {tls} }} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": {TLS}
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [ {{ certificate_chain: {{ filename: "{certificate}" }}, private_key: {{ filename: "{key}" }} }} ]
      filters:
{manager}  clusters:
{}{}"#,
        cluster("v1", *v1),
        cluster("v2", *v2)
    )
}
