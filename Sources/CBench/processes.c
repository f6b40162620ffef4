// Placing threads on processors, and starting servers there.
#define _GNU_SOURCE
#include "CBench.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

int cbench_processors(int *out, int capacity) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return -1;
    int count = 0;
    for (int i = 0; i < CPU_SETSIZE && count < capacity; i++)
        if (CPU_ISSET(i, &set))
            out[count++] = i;
    return count;
}

int cbench_pin(const int *processors, int count) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < count; i++)
        CPU_SET(processors[i], &set);
    return sched_setaffinity(0, sizeof set, &set);
}

int cbench_set_realtime(int on) {
    struct sched_param parameters = {.sched_priority = on ? 10 : 0};
    return sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &parameters);
}

pid_t cbench_spawn(char *const arguments[], const int *processors, int count, const char *log) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    // The bench ignores SIGPIPE, and what is ignored stays so across exec.
    signal(SIGPIPE, SIG_DFL);
    int pinned = cbench_pin(processors, count);
    int input = open("/dev/null", O_RDONLY);
    int output = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (input < 0 || output < 0)
        _exit(126);
    dup2(input, 0);
    dup2(output, 1);
    dup2(output, 2);
    if (pinned != 0) {
        dprintf(2, "it could not be bound to its processors\n");
        _exit(126);
    }
    close_range(3, ~0U, 0);
    execvp(arguments[0], arguments);
    _exit(127);
}
