/* writer NAME COUNT RATE [both]: COUNT numbered lines at RATE a second, then it sleeps for ever.
 *
 * A line is `NAME STREAM NUMBER PADDING`, about 100 bytes. With `both`, lines go to stdout and stderr in turn, each stream
 * numbered from 1. NAME is taken from the environment (WRITER_NAME) if it is given as "-": Swarm fills templates in there.
 * With WRITER_SHARE=SLOT/REPLICAS in the environment, COUNT is the total of a service, and this replica writes its share.
 * The pace is kept by the clock, not by pauses: batches of 10 ms, each due at an absolute time. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void put(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(1);
        text += n;
        length -= (size_t)n;
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: writer NAME COUNT RATE [both]\n");
        return 64;
    }
    const char *name = strcmp(argv[1], "-") ? argv[1] : getenv("WRITER_NAME");
    long count = atol(argv[2]), rate = atol(argv[3]), number[2] = {0, 0};
    int both = argc > 4 && !strcmp(argv[4], "both");
    const char *share = getenv("WRITER_SHARE");
    long slot, replicas;
    if (share && sscanf(share, "%ld/%ld", &slot, &replicas) == 2 && replicas > 0)
        count = count / replicas + (slot <= count % replicas);
    if (!name || rate < 1)
        return 64;

    signal(SIGTERM, _exit); /* the first process of a container ignores what it has no handler for */

    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    long done = 0, ticks = 0;
    while (done < count) {
        long until = ++ticks * rate / 100; /* what must be out after this many batches of 10 ms */
        for (; done < until && done < count; done++) {
            int s = both ? (int)(done % 2) : 0;
            char line[256];
            int n = snprintf(line, sizeof line - 64, "%s %s %ld ", name, s ? "stderr" : "stdout", ++number[s]);
            for (; n < 99; n++)
                line[n] = (char)('a' + n % 26);
            line[n++] = '\n';
            put(1 + s, line, (size_t)n);
        }
        due.tv_nsec += 10000000;
        if (due.tv_nsec >= 1000000000) {
            due.tv_nsec -= 1000000000;
            due.tv_sec++;
        }
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
    }
    for (;;)
        pause();
}
