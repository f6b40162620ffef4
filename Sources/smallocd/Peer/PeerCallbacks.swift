// What libuv calls on behalf of a peer: named functions, since a closure literal would belong to
// whatever actor it is written in. Each finds its peer in the handle's data and does no more.

import CLibuv

private func peer(of data: UnsafeMutableRawPointer?) -> Peer? {
    data.map { Unmanaged<Peer>.fromOpaque($0).takeUnretainedValue() }
}

func peerAllocate(
    _ handle: UnsafeMutablePointer<uv_handle_t>?, _ suggested: Int,
    _ buffer: UnsafeMutablePointer<uv_buf_t>?
) {
    guard let peer = peer(of: handle?.pointee.data) else { return }
    // Without room libuv reads nothing, and `peerRead` is told so.
    buffer?.pointee =
        peer.loop.beginCallback() ? uv_buf_t(base: nil, len: 0) : peer.buffer()
}

func peerRead(
    _ stream: UnsafeMutablePointer<uv_stream_t>?, _ count: Int,
    _ buffer: UnsafePointer<uv_buf_t>?
) {
    guard let buffer else { return }
    peer(of: stream?.pointee.data)?.didRead(count, buffer.pointee)
}

func peerWrote(_ request: UnsafeMutablePointer<uv_write_t>?, _ status: Int32) {
    guard let request, let peer = peer(of: request.pointee.handle?.pointee.data) else { return }
    _ = peer.loop.beginCallback()
    peer.didWrite(status, WriteRequest(uv: request))
    peer.loop.endTurn()
}

func peerClosed(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
    guard let data = handle?.pointee.data else { return }
    Unmanaged<Peer>.fromOpaque(data).takeRetainedValue().didClose()
}
