// The setting `zero-copy`, which is accepted and has no effect.

/// Which clients large data was once sent to without a copy.
///
/// Now all data is copied into the socket. The setting stays valid, so that configuration files
/// that have it go on working.
enum ZeroCopy: String, CaseIterable, Sendable {
    case off
    case sameUser = "same-user"
    case on
}
