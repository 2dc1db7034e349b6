"""What a person does with a swarm beside training in it: found, look at, verify, change who is a member, plan."""
