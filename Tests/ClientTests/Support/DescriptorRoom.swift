// A process that may open no more descriptors, or a few only.

import Foundation

enum DescriptorRoom {
    private static let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)

    /// Lets this process open so many descriptors more.
    ///
    /// - Returns: The limit before, for `reset`.
    static func limit(to count: Int) -> rlimit {
        // Those that lie free below the limit are then as many.
        let room = (0...count).map { _ in dup(STDIN_FILENO) }
        for descriptor in room { close(descriptor) }
        var old = rlimit()
        getrlimit(resource, &old)
        var new = old
        new.rlim_cur = rlim_t(room[count])
        setrlimit(resource, &new)
        return old
    }

    static func reset(_ old: rlimit) {
        var old = old
        setrlimit(resource, &old)
    }
}
