// What stands behind an Allocation: the open handle, and the part of the memory that is looked at.

internal import SmallocSystem
internal import SmallocWire
internal import Synchronization

/// An open handle in one session of a connection.
///
/// Goes when the last allocation or slice that uses it goes; an anonymous allocation is disposed of
/// with it, by the daemon.
final class Remote: Sendable {
    let connection: Connection
    let session: UInt64
    let handle: UInt32
    let type: ElementType
    private let nameState: Locked<String?>
    /// Bytes.
    ///
    /// Only ever shrinks.
    private let sizeState: Atomic<Int>
    /// Disposed of by its handle, which is closed with it and may soon stand for something else.
    ///
    /// Set and, before use, checked under the connection's lock.
    private let gone = Atomic<Bool>(false)

    init(
        _ connection: Connection, session: UInt64, handle: UInt32, type: ElementType, size: Int,
        name: String?
    ) {
        self.connection = connection
        self.session = session
        self.handle = handle
        self.type = type
        nameState = Locked(name)
        sizeState = Atomic(size)
    }

    deinit { if !isGone { connection.abandon(handle, session: session) } }

    var size: Int { sizeState.load(ordering: .relaxed) }

    /// Takes note of a size that the daemon has told.
    ///
    /// Answers may be looked at in another order than they were given in: the least one counts.
    func shrink(to size: Int) { sizeState.min(size, ordering: .relaxed) }

    var name: String? {
        get { nameState.withLock { $0 } }
        set { nameState.withLock { $0 = newValue } }
    }

    var isGone: Bool {
        get { gone.load(ordering: .relaxed) }
        set { gone.store(newValue, ordering: .relaxed) }
    }
}

/// All of a remote allocation, or a slice of it.
struct View: Sendable {
    let remote: Remote
    /// First byte, in the remote allocation.
    let start: Int
    /// Bytes of a slice; nil for all there is.
    var sliceSize: Int?

    var type: ElementType { remote.type }
    var size: Int { window.size }
    var length: Int { size >> type.shift }
    var window: Window { Window(remote.type, remote.size, start, sliceSize) }

    /// Turns elements into bytes of the remote allocation.
    func resolve(
        _ start: Int, _ count: Int
    ) throws(SmallocError) -> (offset: UInt64, size: UInt64) {
        try window.resolve(start, count)
    }
}
