// Two networks of their own with cables between them that can be pulled out. The machine's own
// network stays as it is.

import Foundation

/// Two network namespaces, near and far, with two cables between them.
///
/// Cable 1 has 10.253.1.1 at its near end and 10.253.1.2 at the far one; cable 2 the same with a 2
/// in the third place. All goes with this object.
public final class NetworkPair {
    private static let tool = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"]
        .first { (path: String) in access(path, X_OK) == 0 }
    private let near: String
    private let far: String

    /// Whether this process may make such networks, and the kernel has what they need.
    public static let canBeMade: Bool = getuid() == 0 && (try? NetworkPair()) != nil

    /// Makes the networks.
    ///
    /// - Throws: What the tool said if it failed.
    public init() throws {
        let id = UUID().uuidString.prefix(8).lowercased()
        (near, far) = ("sm\(id)n", "sm\(id)f")
        for name in [near, far] {
            try ip("netns", "add", name)
            try ip("-n", name, "link", "set", "lo", "up")
        }
        for cable in 1...2 {
            try ip(
                "-n", near, "link", "add", "c\(cable)", "type", "veth", "peer", "name",
                "c\(cable)", "netns", far)
            for (name, end) in [(near, 1), (far, 2)] {
                let address = "10.253.\(cable).\(end)/24"
                try ip("-n", name, "address", "add", address, "dev", "c\(cable)")
                try ip("-n", name, "link", "set", "c\(cable)", "up")
            }
        }
    }

    deinit { for name in [near, far] { try? ip("netns", "delete", name) } }

    /// What runs a program at the far end, for `DaemonProcess`.
    public var runsFar: [String] { [NetworkPair.tool ?? "ip", "netns", "exec", far] }

    /// Pulls a cable out at its near end: nothing comes through any more, and nobody is told.
    public func pull(_ cable: Int) throws { try ip("-n", near, "link", "set", "c\(cable)", "down") }

    /// Makes sockets at the near end.
    ///
    /// - Parameter body: Runs on a thread of its own; what it opens stays at the near end.
    public func nearby<Result>(_ body: @escaping () throws -> Result) throws -> Result {
        // A namespace belongs to the thread; this one is not used again.
        typealias SetNamespace = @convention(c) (Int32, Int32) -> Int32
        guard let symbol = dlsym(nil, "setns") else {
            throw RawSocketError.system(call: "setns", number: ENOSYS)
        }
        let setNamespace = unsafeBitCast(symbol, to: SetNamespace.self)
        let path = "/run/netns/" + near
        nonisolated(unsafe) var result: Swift.Result<Result, any Error>?
        nonisolated(unsafe) let body = body
        let isOver = DispatchSemaphore(value: 0)
        Thread {
            defer { isOver.signal() }
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            defer { close(descriptor) }
            guard setNamespace(descriptor, 0) == 0 else {
                result = .failure(RawSocketError.system(call: "setns", number: errno))
                return
            }
            result = Swift.Result { try body() }
        }.start()
        isOver.wait()
        guard let result else { throw RawSocketError.timeout }
        return try result.get()
    }

    private func ip(_ words: String...) throws {
        guard let tool = NetworkPair.tool else {
            throw RawSocketError.system(call: "ip", number: ENOENT)
        }
        let (code, output) = try Spawn.run([tool] + words) ?? (-1, "no end")
        guard code == 0 else {
            throw DaemonProcess.Failure(
                description: "ip \(words.joined(separator: " ")): \(output)")
        }
    }
}
