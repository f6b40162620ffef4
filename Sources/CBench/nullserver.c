// A server that only answers: the least that any server on this kind of socket has to do. It shows
// what the load generator can drive, and what a raw C exchange of large messages reaches.
#define _GNU_SOURCE
#include "CBench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRATCH = 128 << 10, LARGE = 64 << 10, EVENTS = 64 };

struct service {
    int poll;
    size_t requestSize, replySize;
    const char *reply;
    long cookieOffset;
    char *scratch;
};

struct connection {
    int fd, waiting;    // waiting: for room to send, and meanwhile nothing is read
    size_t received;    // of the request that is arriving
    char cookie[8];
    char *request;      // where a large request goes, else null
    char *output;       // a large reply, or the replies of a batch
    size_t outputSize, outputCapacity, sent;
};

static char *warm(size_t size) {
    size_t alignment = size >= (2u << 20) ? 2u << 20 : 4096;
    size_t rounded = (size + alignment - 1) / alignment * alignment;
    char *bytes = aligned_alloc(alignment, rounded);
    if (bytes == NULL)
        abort();
    madvise(bytes, rounded, MADV_HUGEPAGE);
    memset(bytes, 0, rounded);
    return bytes;
}

/// Notes the part of the cookie that lies in `size` bytes at `bytes`, which follow the received.
static void note_cookie(struct service *s, struct connection *c, const char *bytes, size_t size) {
    if (s->cookieOffset < 0)
        return;
    size_t from = (size_t)s->cookieOffset, to = from + 8;
    if (c->received <= from && c->received + size >= to) {
        memcpy(c->cookie, bytes + (from - c->received), 8);
        return;
    }
    for (size_t at = from; at < to; at++)
        if (at >= c->received && at < c->received + size)
            c->cookie[at - from] = bytes[at - c->received];
}

static void reply(struct service *s, struct connection *c) {
    char *at;
    if (s->replySize > LARGE) {
        // One at a time, and always the same bytes: only the cookie is new.
        at = c->output;
        c->outputSize = s->replySize;
    } else {
        if (c->outputSize + s->replySize > c->outputCapacity) {
            c->outputCapacity = (c->outputSize + s->replySize) * 2 + 65536;
            c->output = realloc(c->output, c->outputCapacity);
            if (c->output == NULL)
                abort();
        }
        at = c->output + c->outputSize;
        memcpy(at, s->reply, s->replySize);
        c->outputSize += s->replySize;
    }
    if (s->cookieOffset >= 0)
        memcpy(at + s->cookieOffset, c->cookie, 8);
    c->received = 0;
}

/// 1 if all has left, 0 if the socket is full, -1 if the connection is over.
static int flush(struct service *s, struct connection *c) {
    while (c->sent < c->outputSize) {
        ssize_t n = send(c->fd, c->output + c->sent, c->outputSize - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n > 0)
            c->sent += (size_t)n;
        if ((n < 0) != c->waiting) {
            struct epoll_event event = {n < 0 ? EPOLLOUT : EPOLLIN, {.ptr = c}};
            epoll_ctl(s->poll, EPOLL_CTL_MOD, c->fd, &event);
            c->waiting = n < 0;
        }
        if (n < 0)
            return 0;
    }
    c->sent = c->outputSize = 0;
    return 1;
}

/// Receives once and answers what is whole. 1 to be called again at once, 0 when there is nothing
/// more to do now, -1 if the connection is over.
static int serve(struct service *s, struct connection *c) {
    char *bytes = c->request ? c->request + c->received : s->scratch;
    size_t room = c->request ? s->requestSize - c->received : SCRATCH;
    ssize_t n = recv(c->fd, bytes, room, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? 0 : -1;
    size_t left = (size_t)n;
    while (left > 0) {
        size_t part = s->requestSize - c->received;
        if (part > left)
            part = left;
        note_cookie(s, c, bytes, part);
        c->received += part;
        bytes += part;
        left -= part;
        if (c->received < s->requestSize)
            break;
        reply(s, c);
        // A large reply has one buffer, so it leaves before the next request is looked at.
    }
    if (c->outputSize == 0)
        return c->request != NULL;
    int state = flush(s, c);
    return state < 0 ? -1 : state == 1 && c->request != NULL;
}

static void accept_one(struct service *s, int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        abort();
    c->fd = fd;
    if (s->requestSize > LARGE || s->replySize > LARGE)
        c->request = warm(s->requestSize);
    if (s->replySize > LARGE) {
        c->output = warm(s->replySize);
        memcpy(c->output, s->reply, s->replySize);
    }
    struct epoll_event event = {EPOLLIN, {.ptr = c}};
    epoll_ctl(s->poll, EPOLL_CTL_ADD, fd, &event);
}

int cbench_null_server(int listener, size_t requestSize, const void *replyBytes, size_t replySize,
                       long cookieOffset) {
    struct service service = {epoll_create1(EPOLL_CLOEXEC), requestSize, replySize, replyBytes,
                              cookieOffset, malloc(SCRATCH)};
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    if (service.poll < 0 || service.scratch == NULL ||
        epoll_ctl(service.poll, EPOLL_CTL_ADD, listener, &event) != 0)
        return -1;
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(service.poll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            return -1;
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                accept_one(&service, listener);
                continue;
            }
            int state = c->waiting ? flush(&service, c) : 1;
            while (state == 1)
                state = serve(&service, c);
            if (state < 0) {
                close(c->fd);
                free(c->request);
                free(c->output);
                free(c);
            }
        }
    }
}
