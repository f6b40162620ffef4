// Which data of a peer leaves without a copy, and in what order.

import CLibuv
import Glibc
import SmallocCore

extension Peer {
    /// Whether pages are lent to this peer; asked for when there is something to lend.
    enum Lending: UInt8 {
        case unknown
        case yes
        case no
    }

    /// Sends the beginning of the next piece without a copy, or says that it is to be copied.
    ///
    /// - Parameters:
    ///   - hasOutput: Replies have to leave before it.
    ///   - whole: The piece.
    func lend(_ whole: UnsafeRawBufferPointer, hasOutput: Bool) -> LendingStep {
        guard session.sendLeft >= Peer.lentSizeMin, lending != .no, let lender = loop.lender,
            let socket = lendingSocket, let room = lender.room(socket)
        else { return .copy(whole.count) }
        let toPage = -Int(bitPattern: whole.baseAddress) & (lender.pageSize - 1)
        let size =
            (min(whole.count, session.sendLeft - room.tailSize) - toPage) & ~(lender.pageSize - 1)
        guard size >= lender.stepSize, session.willLend() else { return .copy(whole.count) }
        // Up to a page's beginning.
        if hasOutput || toPage > 0 { return .copy(toPage > 0 ? toPage : lender.pageSize) }
        guard room.size > 0 else { return .wait(lender.stepSize) }
        let most = min(size, room.size, max(slicing.lentSize, lender.stepSize))
        switch lender.lend(UnsafeRawBufferPointer(rebasing: whole.prefix(most)), to: socket) {
        case .lent(let size): return .lent(size)
        case .full: return .wait(lender.stepSize)
        case .refused: return .copy(whole.count)
        }
    }

    /// Bytes of a piece, and of all that is left of an answer, below which nothing is lent.
    static var lentPieceMin: Int { 65_536 }
    private static var lentSizeMin: Int { 384 << 10 }

    /// The descriptor, if pages may be lent to this peer.
    private var lendingSocket: Int32? {
        var descriptor: Int32 = -1
        guard uv_handle_get_type(handle.handle) == UV_NAMED_PIPE,
            uv_fileno(handle.handle, &descriptor) == 0
        else {
            lending = .no
            return nil
        }
        if lending == .unknown {
            let serves = loop.zeroCopy.serves(ZeroCopy.user(of: descriptor), own: geteuid())
            lending = serves ? .yes : .no
        }
        return lending == .yes ? descriptor : nil
    }
}

/// How a piece of data goes on.
enum LendingStep {
    /// So many bytes at most are to be copied.
    case copy(Int)
    /// So many have left.
    case lent(Int)
    /// The socket is full: so many are to be copied when it has room.
    case wait(Int)
}
