// The setting `zero-copy`, which is accepted and has no effect.

/// To whom large data once left without a copy.
///
/// Local clients map an allocation instead. The setting stays valid, so that configuration files
/// that have it go on working.
enum ZeroCopy: String, CaseIterable, Sendable {
    case off
    case sameUser = "same-user"
    case on
}
