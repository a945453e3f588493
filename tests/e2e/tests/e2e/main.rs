//! The end-to-end tests: the real `millrace` binary, seen from outside.

mod answer;
mod apart;
mod bad_input;
mod clients;
mod command_line;
mod cql;
mod crash;
mod demo;
mod documents;
mod fixture;
mod folders;
mod follower;
mod full_disk;
mod histories;
mod jaeger;
mod kills;
mod late;
mod metrics;
mod overload;
mod real_data;
mod redis;
mod round_trip;
mod secure_hops;
mod several;
mod tails;
mod traces;
