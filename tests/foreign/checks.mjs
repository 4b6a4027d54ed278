// What every script here needs.

// One guarantee: printed when it held, the end of the script when it did not.
export const check = (held, what) => {
  if (!held) {
    console.log(`FAILED: ${what}`);
    process.exit(1);
  }
  console.log(`ok: ${what}`);
};

// What a promise rejects with; a promise that fulfils ends the script.
export const rejection = async (promise, what) => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return check(false, what);
};
