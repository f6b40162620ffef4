// sockaddr_un in Swift: a path in a fixed array, whose length is part of the address.

public import Glibc

/// The address of a Unix socket, ready for the system's calls.
public struct UnixAddress {
    /// Most bytes of a path: the kernel's field has 108, with the zero at the end.
    ///
    /// libuv cuts longer ones silently, which is why paths never go through it.
    public static let pathSizeMax = 107

    private var address = sockaddr_un()
    private let size: socklen_t

    /// Makes an address, or nil for a path that can be none.
    ///
    /// - Parameters:
    ///   - path: 1 to 107 bytes, without zeros.
    ///   - allowsAbstract: Whether a leading `@` stands for the abstract namespace.
    public init?(_ path: String, allowsAbstract: Bool = false) {
        let bytes = Array(path.utf8)
        guard (1...UnixAddress.pathSizeMax).contains(bytes.count), !bytes.contains(0) else {
            return nil
        }
        address.sun_family = sa_family_t(AF_UNIX)
        let isAbstract = allowsAbstract && bytes[0] == UInt8(ascii: "@")
        withUnsafeMutableBytes(of: &address.sun_path) { field in
            field.copyBytes(from: bytes)
            if isAbstract { field[0] = 0 }
        }
        // An abstract name ends where the address does, a path with its zero.
        let head = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2
        size = socklen_t(head + bytes.count + (isAbstract ? 0 : 1))
    }

    /// Calls with the address as the system's calls want it.
    public mutating func withSocketAddress<Result>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        let size = size
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, size) }
        }
    }
}
