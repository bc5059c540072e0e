//! Every port on a MongoDB replica set.
