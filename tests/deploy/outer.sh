# Make a machine out of namespaces: NAME is its control group, DIRECTORY is for its files.
set -e
name=$1 directory=$2
mkdir "$directory/cgroup"
mount -t cgroup2 none "$directory/cgroup"
mkdir "$directory/cgroup/$name"
echo $$ >"$directory/cgroup/$name/cgroup.procs"
exec unshare --cgroup --mount --propagation private --pid --fork --kill-child --mount-proc \
    bash "$(dirname "$0")/inner.sh" "$directory"
