// Bulk transfers: large ones in chunks, a few of them in flight at a time.

internal import Glibc
internal import SmallocWire

/// How a transfer is split, in bytes.
struct Chunking {
    let chunk: Int
    let inFlight: Int
    /// What the blocking face moves before it lets other threads have the connection.
    var sizePerCall: Int { chunk * inFlight * 4 }

    init(_ options: Smalloc.Options, _ limits: Limits) {
        let most = Int(clamping: limits.frameSizeMax)
        // Whole elements, whatever the options say; a name never shares the frame.
        chunk = max(8, min(max(options.chunkSize, 4096), most) & ~7)
        inFlight = min(max(options.chunksInFlight, 1), 64)
    }
}

/// The course of a bulk transfer: what to ask for next, and which answer to wait for.
///
/// ```swift
/// while let step = transfer.next() {
///     switch step {
///     case .ask(let at, let size): transfer.asked(try start(at, size))
///     case .wait(let cookie): try wait(cookie)
///     }
/// }
/// ```
struct Transfer {
    enum Step {
        /// Asks for bytes from an offset on; `asked` is to be told the cookie.
        case ask(at: Int, size: Int)
        /// Waits for the answer to a request.
        case wait(UInt64)
    }

    private let size: Int
    private let chunking: Chunking
    private var position = 0
    private var isBegun = false
    /// Set after a failure: nothing more is asked for.
    private var isStopped = false
    /// Cookies of the requests in flight, in the order that they were asked in.
    private(set) var inFlight: [UInt64] = []

    init(_ size: Int, _ chunking: Chunking) {
        self.size = size
        self.chunking = chunking
    }

    /// What to do; nil at the end.
    ///
    /// One of no bytes asks once, so that the daemon can refuse it.
    mutating func next() -> Step? {
        let asks = !isStopped && (position < size || !isBegun)
        if asks, inFlight.count < chunking.inFlight {
            let chunk = min(chunking.chunk, size - position)
            defer {
                position += chunk
                isBegun = true
            }
            return .ask(at: position, size: chunk)
        }
        return inFlight.isEmpty ? nil : .wait(inFlight.removeFirst())
    }

    mutating func asked(_ cookie: UInt64) { inFlight.append(cookie) }

    mutating func stop() { isStopped = true }
}

/// Asks for huge pages under memory that is about to be filled for the first time.
///
/// The first touch of fresh pages costs more than receiving into them; huge ones a fifth of it.
func adviseHuge(_ memory: UnsafeMutableRawBufferPointer) {
    let page = 2 << 20
    guard memory.count >= 2 * page, let base = memory.baseAddress else { return }
    let start = (UInt(bitPattern: base) + UInt(page) - 1) & ~UInt(page - 1)
    let end = (UInt(bitPattern: base) + UInt(memory.count)) & ~UInt(page - 1)
    guard end > start, let aligned = UnsafeMutableRawPointer(bitPattern: start) else { return }
    _ = madvise(aligned, Int(end - start), MADV_HUGEPAGE)
}
