// The page of a job: new runs wait while somebody works with the old ones.

class HeldRuns extends HeldWhole {
  get busy() {
    return super.busy || Boolean(this.list?.querySelector("details[open]"));
  }
}
new HeldRuns("job-runs", "run");
