# One real run of this host's own agent, of nothing but the code it takes from the model master. Set
# before: the functions of agent_run.sh and what they need, tag.
set -u
mode=--no-noop
agent_run --tags "$tag" --no-usecacheonfailure
