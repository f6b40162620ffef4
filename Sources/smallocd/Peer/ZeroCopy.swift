// Who is sent large data without a copy.

import CSmalloc
import Glibc

/// To whose connections large data leaves without a copy.
///
/// Without it the kernel copies data twice on its way: into the socket, and out of it. With it the
/// socket holds the allocation's own pages until they are read. Who does not read them, or takes
/// them out by `splice`, holds them after the allocation is disposed of, too: nobody is given them
/// then, but the machine's memory does not come back, up to 12 MiB of huge pages for each socket. A
/// process of the daemon's own user could do worse.
enum ZeroCopy: String, CaseIterable, Sendable {
    case off
    case sameUser = "same-user"
    case on

    /// A user number that stands for all that have none in this namespace.
    private static let unknownUser: uid_t = 65_534

    /// Whether it serves a process on the other side of a Unix socket.
    ///
    /// - Parameters:
    ///   - user: Who connected; nil if the kernel does not say.
    ///   - own: Whose the daemon is.
    func serves(_ user: uid_t?, own: uid_t) -> Bool {
        switch self {
        case .off: false
        case .sameUser: user == own && user != ZeroCopy.unknownUser
        case .on: true
        }
    }

    /// The user who connected a Unix socket, as of then; nil if the kernel does not say.
    static func user(of socket: Int32) -> uid_t? {
        var user: uid_t = 0
        return smalloc_peer_user(socket, &user) ? user : nil
    }
}
