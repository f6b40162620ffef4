// Which data of a peer leaves without a copy, and in what order.

import CLibuv
import Glibc
import SmallocCore

extension Peer {
    /// What is known of whether pages are lent to this peer.
    ///
    /// An object of its own, since most peers never ask for anything large.
    final class Lending {
        /// Nil: they never are.
        let borrower: PageLender.Borrower?
        var trial = LendingTrial()

        init(_ borrower: PageLender.Borrower?) { self.borrower = borrower }
    }

    /// Sends the beginning of the next piece without a copy, or says that it is to be copied.
    ///
    /// - Parameters:
    ///   - hasOutput: Replies have to leave before it.
    ///   - whole: The piece.
    func lend(_ whole: UnsafeRawBufferPointer, hasOutput: Bool) -> LendingStep {
        guard lending?.trial.isUnderWay == true || session.sendLeft >= Peer.lentSizeMin,
            let lender = loop.lender
        else { return .copy(whole.count) }
        let lending = needLending(lender)
        guard let borrower = lending.borrower else { return .copy(whole.count) }
        if !lending.trial.isUnderWay { lending.trial.begin(session.sendLeft, now: uv_hrtime()) }
        guard lending.trial.lends else { return .copy(whole.count) }
        let toPage = -Int(bitPattern: whole.baseAddress) & (lender.pageSize - 1)
        let lendable = min(whole.count, session.sendLeft - borrower.tailSize) - toPage
        let size = lendable & ~(lender.pageSize - 1)
        guard size >= lender.stepSize, let room = lender.room(borrower), session.willLend() else {
            return .copy(whole.count)
        }
        // Up to a page's beginning.
        if hasOutput || toPage > 0 { return .copy(toPage > 0 ? toPage : lender.pageSize) }
        guard room > 0 else { return .wait(lender.stepSize) }
        let most = min(size, room, max(slicing.lentSize, lender.stepSize))
        switch lender.lend(
            UnsafeRawBufferPointer(rebasing: whole.prefix(most)), to: borrower.socket)
        {
        case .lent(let size):
            lending.trial.noteLent()
            return .lent(size)
        case .full: return .wait(lender.stepSize)
        case .refused: return .copy(whole.count)
        }
    }

    /// Bytes of a piece, and of a whole answer, below which nothing is lent.
    static var lentPieceMin: Int { 65_536 }
    private static var lentSizeMin: Int { 384 << 10 }

    private func needLending(_ lender: PageLender) -> Lending {
        if let lending { return lending }
        var descriptor: Int32 = -1
        let isServed =
            uv_handle_get_type(handle.handle) == UV_NAMED_PIPE
            && uv_fileno(handle.handle, &descriptor) == 0
            && loop.zeroCopy.serves(ZeroCopy.user(of: descriptor), own: geteuid())
        let made = Lending(isServed ? lender.borrower(descriptor) : nil)
        lending = made
        return made
    }

    /// `size` bytes of `session.sendPiece` have left.
    func didSend(_ size: Int) {
        session.sent(size, loop.context)
        if let lending, lending.trial.isUnderWay, session.sendLeft == 0 {
            lending.trial.end(now: uv_hrtime())
        }
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
