// Which sockets have something to read. Swift does not import epoll's packed structure.
#include "CBench.h"

#include <sys/epoll.h>

int cbench_poll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int cbench_poll_add(int poll, int fd, void *tag) {
    struct epoll_event event = {EPOLLIN, {.ptr = tag}};
    return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

int cbench_poll_wait(int poll, void **tags, int capacity, int milliseconds) {
    struct epoll_event events[64];
    int count = epoll_wait(poll, events, capacity, milliseconds);
    for (int i = 0; i < count; i++)
        tags[i] = events[i].data.ptr;
    return count;
}
