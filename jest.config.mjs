// Tests are compiled by `tsc -b` like everything else and run from dist: what is tested is what ships, types
// included, and a test can start the real child processes and commands. Plain ESM, so there is nothing to transform.
export default {
  testEnvironment: 'node',
  transform: {},
  roots: ['<rootDir>/packages', '<rootDir>/apps', '<rootDir>/infra/setup', '<rootDir>/test'],
  testMatch: ['**/dist/**/*.test.js', '<rootDir>/infra/setup/test/**/*.test.js'],
  modulePathIgnorePatterns: [],
  testTimeout: 60_000,
  // Integration tests share one engine and two cores: more files at once only measures their fight.
  maxWorkers: 2,
  reporters: ['default', '<rootDir>/infra/setup/src/jest-reporter.js'],
}
