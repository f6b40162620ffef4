// The only place that casts libuv's handles, and checks its answers.

import CLibuv

/// Views of a handle, which libuv lays out as C "subclasses". Memory is allocated raw and lives
/// until the handle's close callback: libuv keeps its address.
extension UnsafeMutableRawPointer {
    var handle: UnsafeMutablePointer<uv_handle_t> { assumingMemoryBound(to: uv_handle_t.self) }
    var stream: UnsafeMutablePointer<uv_stream_t> { assumingMemoryBound(to: uv_stream_t.self) }
    var pipe: UnsafeMutablePointer<uv_pipe_t> { assumingMemoryBound(to: uv_pipe_t.self) }
    var tcp: UnsafeMutablePointer<uv_tcp_t> { assumingMemoryBound(to: uv_tcp_t.self) }
}

/// Stops the daemon if a call failed that can only fail by a bug of ours or for want of memory at
/// the start.
///
/// - Parameters:
///   - result: What libuv returned; negative is an error.
///   - call: Its name, for the message.
func check(_ result: Int32, _ call: StaticString) {
    precondition(result >= 0, "\(call): \(uvErrorName(result))")
}

/// The name of a libuv error: `EMFILE`.
func uvErrorName(_ error: Int32) -> String { uv_err_name(error).map { String(cString: $0) } ?? "?" }

/// libuv's numbers, as its functions return them.
enum UVError {
    static let again = UV_EAGAIN.rawValue
    static let endOfFile = UV_EOF.rawValue
    static let noBuffer = UV_ENOBUFS.rawValue
}

/// Memory for a handle or request of libuv.
func allocateUV<Kind>(_ kind: Kind.Type) -> UnsafeMutablePointer<Kind> {
    .allocate(capacity: 1)
}
